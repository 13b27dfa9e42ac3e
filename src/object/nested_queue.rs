//! A queue in a namespace: a region of its own, inside of the namespace's.
//!
//! ```text
//! words
//!      0  as region/layout/queue.rs says
//! ```
//!
//! Its participants are not the namespace's. So its repair and its description, and all but its
//! header, are the queue's own business.

use std::sync::Arc;

use crate::error::Result;
use crate::object::kind::{Kind, ObjectWords};
use crate::object::member::Membership;
use crate::object::spec::{InitialValue, ObjectSpec};
use crate::primitive::{Ordering, WORD};
use crate::region::Region;
use crate::region::layout::queue::QueueLayout;
use crate::region::layout::{Layout, header};

pub(crate) struct QueueKind;

impl Kind for QueueKind {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn footprint(&self, spec: &ObjectSpec, _: usize) -> Option<usize> {
        Some(Layout::Queue(spec.queue?).size() as usize / WORD)
    }

    fn initialise(&self, object: &ObjectWords<'_>, _: &InitialValue) -> Result<()> {
        if let Some(region) = open(object, None) {
            region?.format();
        }
        Ok(())
    }

    fn steps(&self, spec: &ObjectSpec) -> u64 {
        spec.queue.map_or(0, |queue| queue.steps())
    }

    fn length(&self, spec: &ObjectSpec) -> Option<u64> {
        spec.queue.map(|queue| queue.capacity)
    }

    fn type_name(&self, spec: &ObjectSpec, count: Option<u64>) -> String {
        let Some((queue, element)) = spec.queue.zip(spec.element()) else { return self.name_with_article() };
        match count {
            Some(_) => format!("a queue of {} {element}", queue.capacity),
            None => format!("a queue of {element}"),
        }
    }

    fn read_header(&self, spec: &mut ObjectSpec, region: &Region, start: usize, length: usize) -> bool {
        spec.queue = read_layout(region, start, length);
        spec.queue.is_some()
    }
}

/// Opens the queue as a region. None: the object is no queue. `host` keeps this process in the
/// namespace.
pub(crate) fn open(object: &ObjectWords<'_>, host: Option<Arc<Membership>>) -> Option<Result<Region>> {
    let layout = Layout::Queue(object.spec.queue?);
    Some(object.region.sub_region(object.start, object.index, layout, host.map(|host| host as _)))
}

/// The layout of a queue at that place, if it is one that can lie there.
fn read_layout(region: &Region, start: usize, length: usize) -> Option<QueueLayout> {
    if length < header::BYTES / WORD {
        return None;
    }
    let mut copy = [0; header::WORDS];
    for (value, word) in copy.iter_mut().zip(region.words(start, header::WORDS).iter()) {
        *value = word.load(Ordering::Relaxed); // checked as a file's is
    }
    match Layout::parse(&copy, (length * WORD) as u64, "a queue").ok()? {
        Layout::Queue(layout) if layout.geometry.extents == 0 => Some(layout),
        _ => None,
    }
}
