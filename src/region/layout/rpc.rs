//! The bytes of a region for requests and replies.
//!
//! ```text
//! words
//!      0  header
//!     64  control       48 words: event counts and counters
//!    112  participants  8 words each: callers, then responders; rounded up to 16 words
//!    ...  active        a bit for each caller, a multiple of 16 words
//!    ...  cells         one for each caller, a multiple of 16 words
//!    ...  buffers         one for each caller and responder, a multiple of 16 words: those of
//!                       caller 0 first
//! ```
//!
//! Cell i is that of participant i. The callers are the first participants.

use super::header::{self, ElementType};
use super::{MAX_PARTICIPANTS, PADDING_WORDS, bytes_of, invalid, participant};
use crate::error::Result;
use crate::primitive::WORD;
use crate::raw::rpc::{MAX_RESPONDERS, buffer, cell};

/// The words of the control block.
pub(crate) mod control {
    /// What responders sleep on. A 32-bit futex word. Never accessed as 64 bits.
    pub(crate) const REQUESTS: usize = 0;
    /// What those sleep on that wait for somebody to join. A 32-bit futex word. Never accessed as
    /// 64 bits.
    pub(crate) const JOINED: usize = 16;
    /// Changes whenever somebody joins or leaves.
    pub(crate) const MEMBERSHIP_EPOCH: usize = 32;
    /// How many callers have joined.
    pub(crate) const CALLERS_JOINED: usize = 33;
    /// How many responders have joined.
    pub(crate) const RESPONDERS_JOINED: usize = 34;
    /// One more than the last place that a caller has had.
    pub(crate) const CALLERS_END: usize = 35;
    pub(crate) const WORDS: usize = 48;
}

const CONTROL_AT: usize = header::WORDS;
const PARTICIPANTS_AT: usize = CONTROL_AT + control::WORDS;

const _: () = {
    assert!(CONTROL_AT.is_multiple_of(PADDING_WORDS) && PARTICIPANTS_AT.is_multiple_of(PADDING_WORDS));
    assert!(control::JOINED - control::REQUESTS >= PADDING_WORDS);
    assert!(control::MEMBERSHIP_EPOCH - control::JOINED >= PADDING_WORDS);
};

/// The sizes of a region for requests that its maker chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RpcGeometry {
    /// At most.
    pub(crate) callers: u64,
    /// At most.
    pub(crate) responders: u64,
    /// The longest reply, in bytes.
    pub(crate) max_reply_bytes: u64,
}

/// The layout of a region for requests and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RpcLayout {
    /// What requests are.
    pub(crate) element: ElementType,
    /// What replies are.
    pub(crate) reply: ElementType,
    /// The longest request, in bytes.
    pub(crate) max_message_bytes: u64,
    pub(crate) geometry: RpcGeometry,
    /// Bytes of the file.
    pub(super) size: u64,
}

/// Words of a cell or a buffer with that many words before the payload.
fn stride(before: usize, bytes: u64) -> Option<u64> {
    (before as u64).checked_add(bytes.div_ceil(WORD as u64))?.checked_next_multiple_of(PADDING_WORDS as u64)
}

impl RpcLayout {
    /// First word of the control block.
    pub(crate) const CONTROL: usize = CONTROL_AT;

    pub(crate) fn new(
        element: ElementType,
        reply: ElementType,
        max_message_bytes: u64,
        geometry: RpcGeometry,
    ) -> Result<Self> {
        let RpcGeometry { callers, responders, max_reply_bytes } = geometry;
        for (what, found, most) in [
            ("number of callers", callers, MAX_PARTICIPANTS),
            ("number of responders", responders, MAX_RESPONDERS as u64),
        ] {
            if !(1..=most).contains(&found) {
                let expected = format_args!("1 to {most}");
                return Err(invalid("region for requests", what, found, expected, "choose another"));
            }
        }
        let max_message_bytes = element.check_or_empty("region for requests", callers, max_message_bytes)?;
        // Such as `()`, for an acknowledgement.
        let max_reply_bytes = reply.check_or_empty("region for requests", callers, max_reply_bytes)?;
        let geometry = RpcGeometry { max_reply_bytes, ..geometry };
        let layout = Self { element, reply, max_message_bytes, geometry, size: 0 };
        match layout.words().and_then(bytes_of) {
            Some(size) => Ok(Self { size, ..layout }),
            None => Err(invalid(
                "region for requests",
                "number of callers and length of messages",
                callers,
                "a region below 64 TiB",
                "choose smaller ones",
            )),
        }
    }

    fn words(&self) -> Option<u64> {
        let RpcGeometry { callers, responders, max_reply_bytes } = self.geometry;
        let cells = stride(cell::REQUEST, self.max_message_bytes)?.checked_mul(callers)?;
        let buffers = stride(buffer::REPLY, max_reply_bytes)?.checked_mul(callers)?.checked_mul(responders)?;
        (self.cells_at() as u64).checked_add(cells)?.checked_add(buffers)
    }

    pub(super) fn store(&self, words: &mut [u64; header::USED]) {
        words[header::KIND] = header::RPC;
        words[header::DIRECTIONS] = 2;
        words[header::CAPACITY] = self.geometry.callers;
        words[header::MAX_MESSAGE_BYTES] = self.max_message_bytes;
        words[header::PARTICIPANTS] = self.geometry.responders;
        words[header::MAX_REPLY_BYTES] = self.geometry.max_reply_bytes;
        self.element.store(words);
        if let ElementType::Value { size, align, tag } = self.reply {
            words[header::REPLY_SIZE] = size;
            words[header::REPLY_ALIGN] = align;
            words[header::REPLY_TAG] = u64::from_le_bytes(tag);
        }
    }

    pub(crate) fn callers(&self) -> usize {
        self.geometry.callers as usize
    }

    /// Also the buffers of a caller.
    pub(crate) fn responders(&self) -> usize {
        self.geometry.responders as usize
    }

    pub(super) fn participants(&self) -> usize {
        self.callers() + self.responders()
    }

    /// Words that repair looks at.
    pub(super) fn steps(&self) -> u64 {
        self.geometry.callers * (self.geometry.responders + 1)
    }

    /// First word of a participant's record.
    pub(super) fn participant(index: usize) -> usize {
        PARTICIPANTS_AT + index * participant::WORDS
    }

    fn active_at(&self) -> usize {
        Self::participant(self.participants()).next_multiple_of(PADDING_WORDS)
    }

    /// First word and number of words of the bits of the callers.
    pub(crate) fn active(&self) -> (usize, usize) {
        (self.active_at(), self.callers().div_ceil(u64::BITS as usize))
    }

    fn cells_at(&self) -> usize {
        let (start, length) = self.active();
        (start + length).next_multiple_of(PADDING_WORDS)
    }

    /// Words of a cell.
    pub(crate) fn cell_stride(&self) -> usize {
        stride(cell::REQUEST, self.max_message_bytes).unwrap_or(0) as usize
    }

    /// First word and number of words of the cells, inside the region by construction.
    pub(crate) fn cells(&self) -> (usize, usize) {
        (self.cells_at(), self.callers() * self.cell_stride())
    }

    /// Words of a buffer.
    pub(crate) fn buffer_stride(&self) -> usize {
        stride(buffer::REPLY, self.geometry.max_reply_bytes).unwrap_or(0) as usize
    }

    /// First word and number of words of the buffers, inside the region by construction.
    pub(crate) fn buffers(&self) -> (usize, usize) {
        let (start, length) = self.cells();
        (start + length, self.callers() * self.responders() * self.buffer_stride())
    }

    /// The word that a caller sleeps on while it waits for a reply in that buffer.
    pub(crate) fn buffer_event(&self, caller: usize, buffer: usize) -> usize {
        self.buffers().0 + (caller * self.responders() + buffer) * self.buffer_stride() + buffer::EVENT
    }

    pub(crate) fn role_name(&self, index: usize) -> &'static str {
        if index < self.callers() { "caller" } else { "responder" }
    }
}
