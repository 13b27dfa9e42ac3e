//! The worker's side: the function that its process runs.

use std::any::Any;
use std::cell::RefCell;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::thread;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SendError;
use crate::pipe::BytePipe;
use crate::process::error::Panic;
use crate::process::function::{JobFunction, Located};
use crate::process::pool::message::{LastPanics, Reply};
use crate::process::report;
use crate::process::start::REPORT_LEN;
use crate::sys::fork::ForkSafe;
use crate::sys::program::Program;

/// How many jobs of a chunk are received at once, if they are there.
const BATCH: usize = 64;

/// As much of a panic's message as [`report`] keeps.
const MESSAGE_CHARS: usize = REPORT_LEN as usize / 2 / 4;

/// What the initializer gets. It is serialised for each worker, and the pool keeps it.
pub(super) struct InitializerArguments<A>(pub(super) Arc<A>);

impl<A: Serialize> Serialize for InitializerArguments<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, A: Deserialize<'de>> Deserialize<'de> for InitializerArguments<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        A::deserialize(deserializer).map(|value| Self(Arc::new(value)))
    }
}

/// The pipe to the pool, and the initializer with its arguments.
pub(super) type Arguments<A, R> = (BytePipe, Option<(Located<A, R>, InitializerArguments<A>)>);

thread_local! {
    /// The last panic of this thread.
    static LAST_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Noted {
    panics: LastPanics,
    /// The pool has not been told of the last one.
    is_news: bool,
}

/// The last panics of this process, as the report has them, too.
static NOTED: ForkSafe<Noted> = ForkSafe::new();

/// Runs jobs until the pool closes the pipe.
pub(super) fn serve<A, R>((mut pipe, initializer): Arguments<A, R>)
where
    A: Serialize + DeserializeOwned,
    R: Termination,
{
    note_panics();
    let ready = match initializer {
        None => Reply::Ready,
        Some((function, InitializerArguments(arguments))) => initialize(function, arguments),
    };
    let is_ready = ready == Reply::Ready;
    if pipe.send(ready.encode()).is_err() || !is_ready {
        return;
    }
    let program = Program::own();
    while let Some(chunk) = receive(&mut pipe) {
        if pipe.send(Reply::Taken.encode()).is_err() {
            return;
        }
        for message in chunk {
            if tell_panics(&mut pipe).is_err() {
                return;
            }
            let reply = run(program, &message);
            drop(message);
            if answer(&mut pipe, reply).is_err() {
                return;
            }
        }
    }
}

fn initialize<A, R: Termination>(function: Located<A, R>, arguments: Arc<A>) -> Reply {
    // It was deserialised just now, and nothing else refers to it.
    let Some(arguments) = Arc::into_inner(arguments) else {
        return Reply::InitializerFailed("its arguments are in use".to_string());
    };
    match catch(|| (function.0)(arguments).report()) {
        Ok(code) if code == ExitCode::SUCCESS => Reply::Ready,
        Ok(_) => {
            Reply::InitializerFailed("it returned a failure, which the worker wrote to standard error".to_string())
        }
        Err(panic) => Reply::InitializerFailed(panic.to_string()),
    }
}

/// Receives a chunk. `None`: there are no more.
fn receive(pipe: &mut BytePipe) -> Option<Vec<Vec<u8>>> {
    let mut chunk = Vec::new();
    let mut messages = [const { Vec::new() }; BATCH];
    loop {
        let count = pipe.rx.recv_many(&mut messages).ok()?;
        for message in messages.iter_mut().take(count).map(mem::take) {
            if message.is_empty() {
                return Some(chunk);
            }
            chunk.push(message);
        }
    }
}

fn run(program: &Program, message: &[u8]) -> Reply {
    match catch(|| JobFunction::call(program, message)) {
        Ok(Some(outcome)) => outcome.into(),
        Ok(None) => Reply::ArgumentsRefused("found no function in the program where the job names one".to_string()),
        Err(panic) => Reply::Panicked(panic),
    }
}

fn answer(pipe: &mut BytePipe, reply: Reply) -> Result<(), SendError> {
    match pipe.send(reply.encode()) {
        Err(error @ SendError::TooLarge { .. }) => pipe.send(Reply::ResultRefused(error.to_string()).encode()),
        sent => sent,
    }
}

/// Runs code of the program. A panic is returned.
fn catch<T>(action: impl FnOnce() -> T) -> Result<T, Panic> {
    LAST_PANIC.take();
    panic::catch_unwind(AssertUnwindSafe(action)).map_err(|payload| {
        let panic = LAST_PANIC.take().unwrap_or_else(|| without_place(&*payload));
        // Dropping it runs code of the program, which may panic.
        mem::forget(payload);
        panic
    })
}

/// Has every panic noted, for [`catch`] and [`tell_panics`].
fn note_panics() {
    let (next, own) = (panic::take_hook(), thread::current().id());
    panic::set_hook(Box::new(move |info| {
        let panic = cut(report::describe(info));
        let (is_own, told) = (thread::current().id() == own, Some(panic.clone()));
        let replaced = NOTED.with(|last| {
            last.is_news = true;
            let LastPanics { own, other } = &mut last.panics;
            mem::replace(if is_own { own } else { other }, told)
        });
        drop(replaced);
        // It fails in a thread whose variables are gone, which runs no job.
        let _ = LAST_PANIC.try_with(|last| last.replace(Some(panic)));
        next(info);
    }));
}

/// Tells the pool of panics that this process has survived, so that it does not take them for what
/// ended the next job.
fn tell_panics(pipe: &mut BytePipe) -> Result<(), SendError> {
    let news = NOTED.with(|last| mem::take(&mut last.is_news).then(|| last.panics.clone()));
    news.map_or(Ok(()), |panics| pipe.send(Reply::Survived(panics).encode()).map(drop))
}

/// As the report has it.
fn cut(mut panic: Panic) -> Panic {
    if let Some((end, _)) = panic.message.char_indices().nth(MESSAGE_CHARS) {
        panic.message.truncate(end);
    }
    panic
}

/// A panic that no hook has seen: by `resume_unwind`, or since the job has set another hook.
fn without_place(payload: &(dyn Any + Send)) -> Panic {
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text.to_string(),
        (_, Some(text)) => text.clone(),
        _ => "a panic with a value that is no text".to_string(),
    };
    let thread = thread::current().name().map(String::from);
    cut(Panic { thread, file: "an unknown file".to_string(), line: 0, column: 0, message })
}
