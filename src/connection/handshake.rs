//! The handshake: which versions both sides have, and that both have the same key.
//!
//! What: each side sends a hello with a fresh nonce. With a key, each then proves that it has the
//! key, the client first: an HMAC-SHA256 over the role, the kind of socket and both hellos. The
//! role keeps a side from being answered with its own proof, the nonces keep proofs from being used
//! again, and the kind of socket keeps those of a Unix socket from being passed on over TCP, and
//! the reverse. Then the listener welcomes the client, and the client is ready.
//!
//! A program between the two that passes everything on over the same transport is not noticed.
//!
//! ```text
//! client                              listener
//! hello-1   hello, nonce        ->
//!                               <-    hello, nonce       hello-2
//! proof-1   HMAC("client")      ->                       (with a key)
//!                               <-    HMAC("listener")   proof-2   (with a key)
//!                               <-    welcome            welcome-1 (with an endpoint, in memory)
//! ready-1   ready               ->
//! ```
//!
//! The listener proves nothing to a client that has not proved to have the key: what it sends can
//! be used to try keys. A side that refuses says why before it closes.
//!
//! Bytes: of each message the first is its kind. A hello is 8 bytes of magic, the version of the
//! protocol and that of the layout (u32 each), 1 byte whether there is a key, the longest message
//! (u64), and 32 bytes of nonce. All numbers are little-endian.
//!
//! Crash: a connection that is cut at any step is an error for the other side, and nothing else.
//! What travels in the welcome ends with the socket.
//!
//! Source: Python's `multiprocessing.connection`, with both nonces and the role in each proof.

use std::fmt;
use std::io;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::{Error, ErrorKind, Result};
use crate::region::layout::header::LAYOUT_VERSION;
use crate::sys::random;

const MAGIC: [u8; 8] = *b"tombolo\n";

/// The version of the handshake, of what follows on a stream, and of how endpoints are handed over.
const PROTOCOL_VERSION: u32 = 1;

const HELLO: u8 = 1;
const PROOF: u8 = 2;
const WELCOME: u8 = 3;
const READY: u8 = 4;
const REFUSAL: u8 = 5;

const NONCE_LEN: usize = 32;
const MAC_LEN: usize = 32;

/// The longest message of a handshake. A later version may have a longer hello.
pub(super) const MAX_LEN: usize = 256;

/// What both sides are to have. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(Arc<[u8]>);

impl Key {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the side in this role sends to prove that it has the key.
    fn mac(
        &self,
        role: Role,
        transport: Transport,
        client_hello: &[u8],
        listener_hello: &[u8],
    ) -> Result<Hmac<Sha256>> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .map_err(|_| Error::io("use this key", io::ErrorKind::InvalidInput.into(), "choose another one"))?;
        let label: &[u8] = if role == Role::Client { b"tombolo client\n" } else { b"tombolo listener\n" };
        let transport: &[u8] = if transport == Transport::Unix { b"unix\n" } else { b"tcp\n" };
        // Each part has a fixed length, or ends with a line feed.
        Ok(mac.chain_update(label).chain_update(transport).chain_update(client_hello).chain_update(listener_hello))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Listener,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Unix,
    Tcp,
}

/// Why one side does not want the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    WrongUser,
    WrongKey,
    /// There are too many handshakes at once.
    Overloaded,
}

const REFUSALS: [Refusal; 3] = [Refusal::WrongUser, Refusal::WrongKey, Refusal::Overloaded];

impl Refusal {
    pub(super) fn message(self) -> [u8; 2] {
        let code = REFUSALS.iter().position(|refusal| *refusal == self).unwrap_or_default();
        [REFUSAL, code as u8]
    }

    /// The error of the side that was refused.
    pub(super) fn error(self, action: &str) -> Error {
        let (found, expected, remedy) = match self {
            Self::WrongUser => (
                "that this process runs as a user that is not allowed there",
                "one of the allowed users",
                "run it as another user, or allow this one there (`allowed_users`)",
            ),
            Self::WrongKey => ("that the other side has another key", "the same key on both sides", "use the same key"),
            Self::Overloaded => (
                "too many clients that connect at once",
                "fewer",
                "try again, and find out which clients do not answer",
            ),
        };
        let kind = if self == Self::Overloaded { ErrorKind::Busy } else { ErrorKind::Refused };
        Error::new(kind, action, found, expected, remedy)
    }
}

/// Why a handshake failed, and what to send to the other side before closing, if not empty.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) answer: Vec<u8>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, answer: Vec::new() }
    }
}

/// What to do after a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for the next message.
    Continue,
    /// Of a listener: send the welcome, with what belongs to it.
    Welcome,
    /// Of a client: take what came with the welcome, and send that it is ready.
    TakeWelcome,
    Complete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    Hello,
    Proof,
    Welcome,
    Ready,
    Nothing,
}

/// One side of a handshake, without its socket.
pub(super) struct Handshake {
    role: Role,
    transport: Transport,
    /// What messages of errors call it.
    action: String,
    key: Option<Key>,
    own_hello: Vec<u8>,
    peer_hello: Vec<u8>,
    awaiting: Awaiting,
    /// The longest message that both sides accept.
    limit: u64,
}

impl Handshake {
    pub(super) fn new(role: Role, transport: Transport, action: String, key: Option<Key>, limit: u64) -> Result<Self> {
        let nonce: [u8; NONCE_LEN] =
            random::bytes().map_err(|error| Error::io("get random bytes", error, "use Linux 3.17 or later"))?;
        let mut hello = vec![HELLO];
        hello.extend(MAGIC);
        hello.extend(PROTOCOL_VERSION.to_le_bytes());
        hello.extend((LAYOUT_VERSION as u32).to_le_bytes());
        hello.push(u8::from(key.is_some()));
        hello.extend(limit.to_le_bytes());
        hello.extend(nonce);
        Ok(Self {
            role,
            transport,
            action,
            key,
            own_hello: hello,
            peer_hello: Vec::new(),
            awaiting: Awaiting::Hello,
            limit,
        })
    }

    /// What a client sends first.
    pub(super) fn hello(&self) -> &[u8] {
        &self.own_hello
    }

    pub(super) fn welcome() -> &'static [u8] {
        &[WELCOME]
    }

    pub(super) fn ready() -> &'static [u8] {
        &[READY]
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    fn other(&self) -> Role {
        if self.role == Role::Client { Role::Listener } else { Role::Client }
    }

    /// Takes a message of the other side. Returns what to answer, which may be nothing.
    pub(super) fn receive(&mut self, message: &[u8]) -> Result<(Vec<u8>, Next), Failure> {
        match (self.awaiting, message.split_first()) {
            (_, Some((&REFUSAL, [code]))) if self.role == Role::Client => match REFUSALS.get(usize::from(*code)) {
                Some(refusal) => Err(refusal.error(&self.action).into()),
                None => Err(self.unexpected("a refusal of an unknown kind").into()),
            },
            (_, Some((&REFUSAL, _))) => Err(Refusal::WrongKey.error(&self.action).into()),
            (Awaiting::Hello, _) => self.receive_hello(message),
            (Awaiting::Proof, Some((&PROOF, proof))) => self.receive_proof(proof),
            (Awaiting::Welcome, Some((&WELCOME, []))) => {
                self.awaiting = Awaiting::Nothing;
                Ok((Vec::new(), Next::TakeWelcome))
            }
            (Awaiting::Ready, Some((&READY, []))) => {
                self.awaiting = Awaiting::Nothing;
                Ok((Vec::new(), Next::Complete))
            }
            (awaiting, _) => {
                Err(self.unexpected(format_args!("{} bytes that are no {awaiting:?}", message.len())).into())
            }
        }
    }

    fn unexpected(&self, found: impl fmt::Display) -> Error {
        Error::new(
            ErrorKind::WrongVersion,
            &self.action,
            found,
            "the handshake of tombolo",
            "see which program is at that address",
        )
    }

    fn receive_hello(&mut self, message: &[u8]) -> Result<(Vec<u8>, Next), Failure> {
        let Some(hello) = Hello::parse(message) else {
            return Err(self.unexpected(format_args!("{} bytes that are no hello", message.len())).into());
        };
        // A listener answers in any case: so the client sees what is different, too.
        let answer = if self.role == Role::Listener { self.own_hello.clone() } else { Vec::new() };
        if let Some(error) = self.difference(&hello) {
            return Err(Failure { error, answer });
        }
        self.peer_hello = message.to_vec();
        self.limit = self.limit.min(hello.limit);
        let (awaiting, answer, next) = match (self.role, &self.key) {
            (Role::Listener, Some(_)) => (Awaiting::Proof, answer, Next::Continue),
            (Role::Listener, None) => (Awaiting::Ready, answer, Next::Welcome),
            (Role::Client, Some(_)) => (Awaiting::Proof, self.proof()?, Next::Continue),
            (Role::Client, None) => (Awaiting::Welcome, answer, Next::Continue),
        };
        self.awaiting = awaiting;
        Ok((answer, next))
    }

    /// Why the two sides do not fit together.
    fn difference(&self, hello: &Hello) -> Option<Error> {
        let (found, own) = ((hello.protocol, hello.layout), (PROTOCOL_VERSION, LAYOUT_VERSION as u32));
        if found != own {
            let show = |(protocol, layout)| format!("protocol version {protocol} and layout version {layout}");
            return Some(Error::new(
                ErrorKind::WrongVersion,
                &self.action,
                show(found),
                show(own),
                "use versions of tombolo that belong together on both sides",
            ));
        }
        let name = |has_key| if has_key { "a side with a key" } else { "a side without a key" };
        (hello.has_key != self.key.is_some()).then(|| {
            Error::new(
                ErrorKind::Refused,
                &self.action,
                name(hello.has_key),
                name(self.key.is_some()),
                "give both sides the same key, or neither",
            )
        })
    }

    fn receive_proof(&mut self, proof: &[u8]) -> Result<(Vec<u8>, Next), Failure> {
        let [client, listener] = self.hellos();
        let Some(key) = &self.key else { return Err(self.unexpected("a proof without a key").into()) };
        let is_right = proof.len() == MAC_LEN
            && key.mac(self.other(), self.transport, client, listener)?.verify_slice(proof).is_ok(); // in constant time
        if !is_right {
            let error = Refusal::WrongKey.error(&self.action);
            return Err(Failure { error, answer: Refusal::WrongKey.message().to_vec() });
        }
        Ok(match self.role {
            Role::Client => {
                self.awaiting = Awaiting::Welcome;
                (Vec::new(), Next::Continue)
            }
            Role::Listener => {
                self.awaiting = Awaiting::Ready;
                (self.proof()?, Next::Welcome)
            }
        })
    }

    /// That this side has the key.
    fn proof(&self) -> Result<Vec<u8>> {
        let [client, listener] = self.hellos();
        let mut message = vec![PROOF];
        if let Some(key) = &self.key {
            message.extend(key.mac(self.role, self.transport, client, listener)?.finalize().into_bytes());
        }
        Ok(message)
    }

    fn hellos(&self) -> [&[u8]; 2] {
        match self.role {
            Role::Client => [&self.own_hello, &self.peer_hello],
            Role::Listener => [&self.peer_hello, &self.own_hello],
        }
    }
}

struct Hello {
    protocol: u32,
    layout: u32,
    has_key: bool,
    limit: u64,
}

impl Hello {
    /// Of another version only the versions are read.
    fn parse(message: &[u8]) -> Option<Self> {
        let rest = message.strip_prefix(&[HELLO])?.strip_prefix(&MAGIC)?;
        let (protocol, rest) = rest.split_first_chunk()?;
        let (layout, rest) = rest.split_first_chunk()?;
        let (protocol, layout) = (u32::from_le_bytes(*protocol), u32::from_le_bytes(*layout));
        if protocol != PROTOCOL_VERSION {
            return Some(Self { protocol, layout, has_key: false, limit: 0 });
        }
        let (has_key, rest) = rest.split_first()?;
        let (limit, nonce) = rest.split_first_chunk()?;
        let is_whole = nonce.len() == NONCE_LEN && *has_key <= 1;
        is_whole.then(|| Self { protocol, layout, has_key: *has_key == 1, limit: u64::from_le_bytes(*limit) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(client: Option<&[u8]>, listener: Option<&[u8]>) -> [Handshake; 2] {
        [
            Handshake::new(Role::Client, Transport::Unix, "connect".into(), client.map(Key::new), 10)
                .unwrap_or_else(|error| panic!("{error}")),
            Handshake::new(Role::Listener, Transport::Unix, "accept".into(), listener.map(Key::new), 20)
                .unwrap_or_else(|error| panic!("{error}")),
        ]
    }

    fn answer(side: &mut Handshake, message: &[u8]) -> (Vec<u8>, Next) {
        side.receive(message).unwrap_or_else(|failure| panic!("{}", failure.error))
    }

    fn kind(outcome: Result<(Vec<u8>, Next), Failure>) -> Option<ErrorKind> {
        outcome.err().map(|failure| failure.error.kind())
    }

    #[test]
    fn handshake_same_key_completes_on_both_sides() {
        let [mut client, mut listener] = pair(Some(b"key"), Some(b"key"));
        let hello = client.hello().to_vec();
        let (reply, _) = answer(&mut listener, &hello);
        let (proof, next) = answer(&mut client, &reply);
        assert_eq!(next, Next::Continue);
        let (reply, next) = answer(&mut listener, &proof);
        assert_eq!(next, Next::Welcome);
        assert_eq!(answer(&mut client, &reply).1, Next::Continue);
        assert_eq!(answer(&mut client, Handshake::welcome()).1, Next::TakeWelcome);
        assert_eq!(answer(&mut listener, Handshake::ready()).1, Next::Complete);
        assert_eq!((client.limit(), listener.limit()), (10, 10));
    }

    #[test]
    fn handshake_passed_on_over_another_transport_is_refused() {
        let [mut client, mut listener] = pair(Some(b"key"), Some(b"key"));
        client.transport = Transport::Tcp;
        let hello = client.hello().to_vec();
        let (reply, _) = answer(&mut listener, &hello);
        let (proof, _) = answer(&mut client, &reply);
        assert_eq!(kind(listener.receive(&proof)), Some(ErrorKind::Refused));
    }

    #[test]
    fn handshake_other_key_is_refused_by_either_side() {
        let [mut client, mut listener] = pair(Some(b"key"), Some(b"other"));
        let hello = client.hello().to_vec();
        let (reply, _) = answer(&mut listener, &hello);
        let (proof, _) = answer(&mut client, &reply);
        let Err(failure) = listener.receive(&proof) else { panic!("accepted another key") };
        assert_eq!(failure.error.kind(), ErrorKind::Refused);
        assert_eq!(kind(client.receive(&failure.answer)), Some(ErrorKind::Refused));
    }

    /// A listener without the key sends the client's own proof back, or that of an earlier
    /// handshake.
    #[test]
    fn handshake_proof_sent_back_is_refused() {
        let [mut client, mut listener] = pair(Some(b"key"), Some(b"key"));
        let hello = client.hello().to_vec();
        let (reply, _) = answer(&mut listener, &hello);
        let (proof, _) = answer(&mut client, &reply);
        assert_eq!(kind(client.receive(&proof)), Some(ErrorKind::Refused));
        let [later, mut other] = pair(Some(b"key"), Some(b"key"));
        let hello = later.hello().to_vec();
        answer(&mut other, &hello);
        assert_eq!(kind(other.receive(&proof)), Some(ErrorKind::Refused));
    }

    #[test]
    fn handshake_key_on_one_side_only_is_refused() {
        for (client, listener) in [(Some(&b"key"[..]), None), (None, Some(&b"key"[..]))] {
            let [mut client, mut listener] = pair(client, listener);
            let hello = client.hello().to_vec();
            let Err(failure) = listener.receive(&hello) else { panic!("accepted") };
            assert_eq!(failure.error.kind(), ErrorKind::Refused);
            assert_eq!(kind(client.receive(&failure.answer)), Some(ErrorKind::Refused));
        }
    }

    #[test]
    fn handshake_other_version_is_named() {
        let [client, mut listener] = pair(None, None);
        let mut hello = client.hello().to_vec();
        hello[1 + MAGIC.len()] = 9;
        let Err(failure) = listener.receive(&hello) else { panic!("accepted") };
        assert_eq!(failure.error.kind(), ErrorKind::WrongVersion);
        assert!(failure.error.to_string().contains("protocol version 9"), "{}", failure.error);
    }

    /// Runs a handshake with a key, in which something between the two changes the messages.
    /// Returns how many messages came before one side refused, or none if both are connected.
    fn tampered(mut tamper: impl FnMut(usize, &mut Vec<u8>)) -> Option<usize> {
        let [mut client, mut listener] = pair(Some(b"key"), Some(b"key"));
        let mut message = client.hello().to_vec();
        for step in 0.. {
            tamper(step, &mut message);
            let side = if step % 2 == 0 { &mut listener } else { &mut client };
            match side.receive(&message) {
                Err(_) => return Some(step),
                // The proof of the listener is the last that means anything.
                Ok((answer, _)) if answer.is_empty() => return None,
                Ok((answer, _)) => message = answer,
            }
        }
        None
    }

    /// Each bit of each message counts, those of the hellos too: they are in the proofs.
    #[test]
    fn handshake_any_bit_changed_is_refused() {
        assert_eq!(tampered(|_, _| ()), None);
        let mut lengths = Vec::new();
        tampered(|_, message| lengths.push(message.len()));
        assert_eq!(lengths, [58, 58, 33, 33]);
        for (step, length) in lengths.into_iter().enumerate() {
            for bit in 0..8 * length {
                let refused = tampered(|at, message| {
                    if at == step {
                        message[bit / 8] ^= 1 << (bit % 8);
                    }
                });
                assert!(refused.is_some(), "message {step}, bit {bit}");
            }
            for count in 0..length {
                let refused = tampered(|at, message| message.truncate(if at == step { count } else { usize::MAX }));
                assert_eq!(refused, Some(step), "message {step}, {count} bytes of it");
            }
        }
    }

    /// A side never skips a step, whatever comes, and never gets a welcome before the proof.
    #[test]
    fn handshake_message_out_of_order_is_refused() {
        let messages = [Handshake::welcome(), Handshake::ready(), &[PROOF; 33], &[], &[9], &[HELLO; 58]];
        for message in messages {
            let [mut client, mut listener] = pair(Some(b"key"), Some(b"key"));
            assert!(client.receive(message).is_err() && listener.receive(message).is_err(), "{message:?}");
            let [mut client, mut listener] = pair(Some(b"key"), Some(b"key"));
            let hello = client.hello().to_vec();
            let (reply, _) = answer(&mut listener, &hello);
            answer(&mut client, &reply);
            assert!(client.receive(message).is_err() && listener.receive(message).is_err(), "{message:?}");
        }
    }
}
