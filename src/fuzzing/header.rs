//! The header of a region. It is refused, or describes areas that lie within the mapping, apart
//! from each other, as this library would have laid them out.

use super::input::Input;
use crate::primitive::WORD;
use crate::raw::rpc::{buffer, cell};
use crate::region::layout::broadcast::{self, BroadcastLayout};
use crate::region::layout::header::{ElementType, RegionKind};
use crate::region::layout::namespace::ENTRY_WORDS;
use crate::region::layout::pipe::{PipeLayout, ring};
use crate::region::layout::queue::{QueueLayout, control, own};
use crate::region::layout::rpc::{RpcLayout, control as rpc_control};
use crate::region::layout::{Layout, header, participant};

/// Parses a header of 64 words, and the length of the file that it claims to describe.
pub fn open_header(data: &[u8]) {
    let mut input = Input::new(data);
    let words: [u64; header::WORDS] = std::array::from_fn(|_| input.word());
    let length = input.word();
    let Ok(layout) = Layout::parse(&words, length, "a fuzzed header") else { return };

    let written = layout.header();
    for index in (header::VERSION..header::WORDS).filter(|&index| index != header::REGION_STATE) {
        assert_eq!(
            words[index],
            written.get(index).copied().unwrap_or(0),
            "word {index} is not what this library writes: {layout:?}"
        );
    }
    assert_eq!(layout.size(), length);
    let is_ring = !matches!(layout.kind(), RegionKind::Namespace | RegionKind::Rpc);
    assert!(!is_ring || layout.capacity().is_power_of_two());
    let mapped = layout.mapped() / WORD as u64;
    assert!(layout.mapped() <= length && layout.mapped() > 0, "{layout:?}");
    let mut end = header::WORDS as u64;
    let mut area = |what: &str, (start, words): (usize, usize)| {
        assert!(start as u64 >= end, "{what} starts at {start}, inside the area before it: {layout:?}");
        end = (start as u64).checked_add(words as u64).expect("no overflow");
        assert!(end <= mapped, "{what} ends at {end}, the mapping at {mapped}: {layout:?}");
    };
    let participants = 0..layout.participants();
    match &layout {
        Layout::Pipe(pipe) => {
            assert!(matches!(pipe.directions, 1 | 2));
            participants.for_each(|i| area("a participant", (layout.participant(i), participant::WORDS)));
            let needed = match pipe.element {
                ElementType::Bytes => pipe.capacity / WORD as u64,
                ElementType::Value { size, .. } => pipe.capacity * size.div_ceil(WORD as u64),
            };
            let rings = 0..pipe.directions as usize;
            rings.clone().for_each(|i| area("a control block", (PipeLayout::ring(i), ring::WORDS)));
            for i in rings {
                area("a ring", pipe.data(i));
                assert!(pipe.data(i).1 as u64 >= needed);
            }
        }
        Layout::Queue(queue) => {
            area("the control block", (QueueLayout::CONTROL, control::WORDS));
            participants.for_each(|i| area("a participant", (layout.participant(i), own::WORDS)));
            area("the owners", queue.owners());
            area("the slots", queue.slots());
            area("the blocks", queue.blocks());
            assert!(queue.slots().1 as u64 >= queue.capacity * queue.stride() as u64);
            assert!(queue.element == ElementType::Bytes || queue.all_blocks() == 0, "blocks for values: {layout:?}");
            assert_extents(&layout, queue);
        }
        Layout::Namespace(namespace) => {
            participants.for_each(|i| area("a participant", (layout.participant(i), own::WORDS)));
            area("the table", (namespace.entry(0), namespace.objects as usize * ENTRY_WORDS));
            area("the objects", (namespace.first_object(), namespace.object_words as usize));
        }
        Layout::Broadcast(broadcast) => {
            area("the control block", (BroadcastLayout::CONTROL, broadcast::control::WORDS));
            let (tracks, subscribers) = (0..broadcast.publishers(), 0..broadcast.subscribers());
            // Enough of them: there can be thousands of each.
            let some =
                |range: std::ops::Range<usize>| range.clone().take(3).chain(range.rev().take(1).filter(|&i| i > 2));
            some(participants).for_each(|i| area("a participant", (layout.participant(i), participant::WORDS)));
            some(tracks.clone()).for_each(|i| area("a track", (broadcast.track(i), broadcast::track::WORDS)));
            for track in some(tracks.clone()) {
                some(subscribers.clone())
                    .for_each(|i| area("a cursor", (broadcast.cursor(track, i), broadcast::cursor::WORDS)));
            }
            some(tracks.clone()).for_each(|track| area("the latest values", broadcast.latest(track)));
            some(tracks.clone()).for_each(|track| area("leases", broadcast.leases(track)));
            for track in some(tracks.clone()) {
                area("the slots", broadcast.data(track));
                assert!(broadcast.data(track).1 as u64 >= broadcast.capacity * broadcast.stride() as u64);
            }
            some(tracks).for_each(|track| area("frames", broadcast.frames(track)));
            assert!(broadcast.geometry.history * 2 <= broadcast.capacity);
        }
        Layout::Rpc(rpc) => {
            area("the control block", (RpcLayout::CONTROL, rpc_control::WORDS));
            participants.for_each(|i| area("a participant", (layout.participant(i), participant::WORDS)));
            area("the bits", rpc.active());
            area("the cells", rpc.cells());
            area("the buffers", rpc.buffers());
            let fits = |stride: usize, before: usize, bytes: u64| (stride - before) as u64 * WORD as u64 >= bytes;
            assert!(fits(rpc.cell_stride(), cell::REQUEST, rpc.max_message_bytes));
            assert!(fits(rpc.buffer_stride(), buffer::REPLY, rpc.geometry.max_reply_bytes));
        }
    }
    if let ElementType::Value { size, align, .. } = layout.element() {
        assert!(align.is_power_of_two() && align <= 128 && size.is_multiple_of(align), "no such type: {layout:?}");
    }

    let mut copy = [0; header::WORDS];
    copy[..header::USED].copy_from_slice(&written);
    copy[header::MAGIC] = header::MAGIC_NUMBER;
    assert_eq!(Layout::parse(&copy, length, "its copy").expect("a written header is valid"), layout);
}

/// Asserts that the first and the last extent have room for the longest message. Without extents, a
/// slot or a block must have it.
fn assert_extents(layout: &Layout, queue: &QueueLayout) {
    let (geometry, limit) = (queue.geometry, queue.max_message_bytes);
    let longest = if geometry.extents == 0 { geometry.inline_bytes.max(geometry.block_bytes) } else { u64::MAX };
    assert!(queue.element != ElementType::Bytes || limit <= longest, "no room for the longest message: {layout:?}");
    for index in [0, geometry.extents.wrapping_sub(1)].into_iter().filter(|&index| index < geometry.extents) {
        let start = queue.extent(index);
        let expected = index.checked_mul(limit).and_then(|before| before.checked_add(layout.mapped()));
        assert!(expected.is_some_and(|expected| start >= expected), "extent {index} overlaps another: {layout:?}");
        let end = start.checked_add(limit).expect("no overflow");
        assert!(end <= layout.size(), "extent {index} ends at {end}: {layout:?}");
    }
}
