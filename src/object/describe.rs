//! What the objects of a namespace look like from outside.

use crate::object::table::{Entry, MANY, ObjectKind, STATE, mutex, once, value};
use crate::primitive::{AtomicU64, Ordering, WORD, load_bytes};
use crate::queue::state::QueueState;
use crate::raw::seqlock::{CONTROL, SeqLock};
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::header::ElementType;
use crate::region::layout::queue::QueueLayout;
use crate::region::words::Words;

/// An object of a namespace, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ObjectKind,
    /// What it holds, if it holds values.
    pub element: Option<ElementType>,
    /// Elements of an array, permits of a bounded semaphore, parties of a barrier; capacity of a queue.
    pub length: Option<u64>,
    /// The value, or the first ones: numbers as such, others as bytes in hexadecimal.
    pub value: Option<String>,
    /// The process that has its lock.
    pub holder: Option<u64>,
    /// The processes that read under its lock, have permits of it, have come to it, or hold a half of it.
    pub users: Vec<u64>,
    /// Anything else, in a few words: "free", "set", "2 of 4 permits left".
    pub state: String,
}

/// Values that are shown, of an array, and bytes of another one.
const SHOWN: usize = 8;
const SHOWN_BYTES: usize = 32;

impl Region {
    /// All objects, in the order of the table.
    pub(crate) fn glance(&self, entries: &[Entry]) -> Vec<ObjectInfo> {
        entries.iter().enumerate().map(|(index, entry)| entry.glance(self, index)).collect()
    }
}

impl Entry {
    fn glance(&self, region: &Region, index: usize) -> ObjectInfo {
        let kind = self.plan.kind;
        let pid = |lane: usize| if lane < region.layout().participants() { region.participants().pid(lane) } else { 0 };
        let pids = |lanes: &mut dyn Iterator<Item = usize>| lanes.map(pid).collect::<Vec<u64>>();
        let word = |at: usize| region.word(self.at + at).load(Ordering::Acquire);
        let lock = match kind {
            ObjectKind::Value => Some(value::LOCK),
            ObjectKind::Mutex
            | ObjectKind::ReentrantMutex
            | ObjectKind::RwLock
            | ObjectKind::Array
            | ObjectKind::Once => Some(STATE),
            _ => None,
        };
        let lock = lock.map(|at| self.lock(region, at));
        let holder = lock.as_ref().and_then(|lock| lock.owner()).map(pid);
        let mut users = Vec::new();
        let state = match kind {
            ObjectKind::Semaphore => format!("{} permits left", word(STATE)),
            ObjectKind::BoundedSemaphore => {
                let permits = self.permits(region);
                let mut lanes =
                    permits.owners().filter(|&lane| lane < region.layout().participants()).collect::<Vec<_>>();
                lanes.sort_unstable();
                users = pids(&mut lanes.into_iter());
                let (taken, count) = (permits.allocated(), self.plan.count);
                format!("{} of {count} permits left", count.saturating_sub(taken))
            }
            ObjectKind::Event => if word(STATE) == 0 { "clear" } else { "set" }.to_string(),
            ObjectKind::Barrier => {
                let barrier = self.barrier(region);
                let meeting = barrier.state();
                if meeting.arrived > 0 {
                    users = pids(&mut barrier.participants());
                }
                match meeting.broken_by {
                    None => format!("{} of {} have come", meeting.arrived, self.plan.count),
                    Some(by) => format!("broken by process {by}"),
                }
            }
            ObjectKind::Once if word(once::DONE) != 0 => "done".to_string(),
            ObjectKind::Once if holder.is_none() => "not done".to_string(),
            ObjectKind::Queue => {
                let within = self
                    .plan
                    .queue
                    .and_then(|layout| region.sub_region(self.at, index, Layout::Queue(layout), None).ok());
                within.map_or_else(String::new, |queue| {
                    users = queue.participants().registered().map(|lane| queue.participants().pid(lane)).collect();
                    let words = QueueState::of(&queue).ring_words();
                    let closed = if words.is_closed() { ", closed" } else { "" };
                    format!("{} queued{closed}", words.len())
                })
            }
            ObjectKind::Atomic | ObjectKind::Condvar => String::new(),
            _ => {
                if kind == ObjectKind::RwLock {
                    users = pids(&mut self.readers(region).participants());
                }
                let past = lock.map(|lock| lock.history()).unwrap_or_default();
                match (holder, users.len()) {
                    _ if past.poisoned => "poisoned".to_string(),
                    _ if past.died => "an owner died".to_string(),
                    (Some(_), _) => String::new(),
                    (None, 0) => "free".to_string(),
                    (None, count) => format!("read by {count}"),
                }
            }
        };
        let is_counted = matches!(kind, ObjectKind::Array | ObjectKind::BoundedSemaphore | ObjectKind::Barrier);
        let queue = self.plan.queue;
        let element = match queue {
            Some(QueueLayout { element: ElementType::Value { size, align, .. }, .. }) => {
                Some(ElementType::Value { size, align, tag: self.plan.tag })
            }
            Some(layout) => Some(layout.element),
            None if self.plan.size == 0 => None,
            None => Some(ElementType::Value { size: self.plan.size, align: self.plan.align, tag: self.plan.tag }),
        };
        ObjectInfo {
            name: self.name.clone(),
            kind,
            element,
            length: queue.map(|layout| layout.capacity).or(is_counted.then_some(self.plan.count)),
            value: self.value_text(region),
            holder,
            users,
            state,
        }
    }

    fn value_text(&self, region: &Region) -> Option<String> {
        let size = self.plan.size as usize;
        let words = region.words(self.at, self.words);
        let cell = |control: usize| {
            let shape = self.plan.buffers(region.layout().participants());
            let (control, buffers) = (words.get(control..control + CONTROL)?, words.get(shape.at..)?);
            read(control, buffers, shape.stride, shape.count, size)
        };
        let bytes = match self.plan.kind {
            _ if size == 0 => return None,
            ObjectKind::Value => cell(0)?,
            ObjectKind::Mutex | ObjectKind::ReentrantMutex | ObjectKind::RwLock => cell(mutex::CELL)?,
            ObjectKind::Atomic => {
                let mut bytes = vec![0; size.min(WORD)];
                load_bytes(words.get(..1)?, &mut bytes);
                bytes
            }
            ObjectKind::Array => return self.elements_text(&words),
            _ => return None,
        };
        Some(shown(self.plan.tag, &bytes, size))
    }

    fn elements_text(&self, words: &Words) -> Option<String> {
        let size = self.plan.size as usize;
        let count = SHOWN.min(self.plan.count as usize);
        let elements = words.get(MANY..)?;
        let mut texts: Vec<String> = if self.plan.is_narrow() {
            let mut bytes = vec![0; size * count];
            load_bytes(elements, &mut bytes);
            bytes.chunks(size).map(|element| shown(self.plan.tag, element, size)).collect()
        } else {
            let content = self.plan.content();
            let cells = elements.chunks(CONTROL + mutex::BUFFERS * content).take(count);
            let read = cells.map(|cell| {
                let (control, buffers) = cell.split_at_checked(CONTROL)?;
                read(control, buffers, content, mutex::BUFFERS, size)
            });
            read.map(|bytes| bytes.map_or_else(|| "?".into(), |bytes| shown(self.plan.tag, &bytes, size))).collect()
        };
        if self.plan.count as usize > count {
            texts.push("..".into());
        }
        Some(format!("[{}]", texts.join(", ")))
    }
}

/// The first bytes of a cell's last version.
fn read(control: &[AtomicU64], buffers: &[AtomicU64], stride: usize, count: usize, size: usize) -> Option<Vec<u8>> {
    let copy = |words: &[AtomicU64]| {
        let mut bytes = vec![0; size.min(SHOWN_BYTES)];
        load_bytes(words, &mut bytes);
        bytes
    };
    Some(SeqLock::new(control, buffers, stride, count as u64)?.read(copy, |_| {}).ok()?.0)
}

/// The first bytes of a value of `size`.
fn shown(tag: [u8; 8], bytes: &[u8], size: usize) -> String {
    macro_rules! numbers {
        ($($number:ident)*) => {
            match tag.escape_ascii().to_string().trim_end_matches("\\x00") {
                $(stringify!($number) if size == size_of::<$number>() && bytes.len() == size => {
                    return bytemuck::pod_read_unaligned::<$number>(bytes).to_string();
                })*
                _ => {}
            }
        };
    }
    numbers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 u128 i128);
    let mut text = String::from("0x");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    if size > bytes.len() {
        text.push_str("..");
    }
    text
}

const _: () = assert!(WORD == 8, "a number of an atomic lies at the front of its word");
