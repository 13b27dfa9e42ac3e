//! A queue or a broadcast in a namespace: a region of its own, inside of the namespace's.
//!
//! ```text
//! words
//!      0  as region/layout/queue.rs or region/layout/broadcast.rs says
//! ```
//!
//! Its participants are not the namespace's. So its repair and its description, and all but its
//! header, are the business of `queue/` or `broadcast/`.

use std::sync::Arc;

use crate::error::Result;
use crate::object::kind::{Kind, ObjectWords};
use crate::object::member::Membership;
use crate::object::spec::{InitialValue, ObjectSpec};
use crate::primitive::{Ordering, WORD};
use crate::region::Region;
use crate::region::layout::header::RegionKind;
use crate::region::layout::{Layout, header};

/// Queues, or broadcasts.
pub(crate) struct NestedKind {
    pub(crate) name: &'static str,
    pub(crate) region: RegionKind,
}

impl Kind for NestedKind {
    fn name(&self) -> &'static str {
        self.name
    }

    fn footprint(&self, spec: &ObjectSpec, _: usize) -> Option<usize> {
        Some(spec.nested?.size() as usize / WORD)
    }

    fn initialise(&self, object: &ObjectWords<'_>, _: &InitialValue) -> Result<()> {
        if let Some(region) = open(object, None) {
            region?.format();
        }
        Ok(())
    }

    fn steps(&self, spec: &ObjectSpec) -> u64 {
        spec.nested.map_or(0, |layout| layout.steps())
    }

    fn length(&self, spec: &ObjectSpec) -> Option<u64> {
        spec.nested.map(|layout| layout.capacity())
    }

    fn type_name(&self, spec: &ObjectSpec, count: Option<u64>) -> String {
        let Some((layout, element)) = spec.nested.zip(spec.element()) else { return self.name_with_article() };
        match count {
            Some(_) => format!("a {} of {} {element}", self.name, layout.capacity()),
            None => format!("a {} of {element}", self.name),
        }
    }

    fn read_header(&self, spec: &mut ObjectSpec, region: &Region, start: usize, length: usize) -> bool {
        spec.nested = read_layout(region, start, length).filter(|layout| layout.kind() == self.region);
        spec.nested.is_some()
    }
}

/// Opens the object as a region. None: it is none. `host` keeps this process in the namespace.
pub(crate) fn open(object: &ObjectWords<'_>, host: Option<Arc<Membership>>) -> Option<Result<Region>> {
    Some(object.region.sub_region(object.start, object.index, object.spec.nested?, host.map(|host| host as _)))
}

/// Whether a region of that layout can be nested in another one.
pub(crate) fn can_nest(layout: &Layout) -> bool {
    match layout {
        Layout::Queue(queue) => queue.geometry.extents == 0,
        // Frames begin at a page's start.
        Layout::Broadcast(broadcast) => broadcast.geometry.frames == 0,
        Layout::Pipe(_) | Layout::Namespace(_) | Layout::Rpc(_) => false,
    }
}

/// The layout of what lies at that place, if it is one that can lie there.
fn read_layout(region: &Region, start: usize, length: usize) -> Option<Layout> {
    if length < header::BYTES / WORD {
        return None;
    }
    let mut copy = [0; header::WORDS];
    for (value, word) in copy.iter_mut().zip(region.words(start, header::WORDS).iter()) {
        *value = word.load(Ordering::Relaxed); // checked as a file's is
    }
    Layout::parse(&copy, (length * WORD) as u64, "a nested region").ok().filter(can_nest)
}
