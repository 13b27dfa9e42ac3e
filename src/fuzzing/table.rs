//! The table of a namespace. It is refused, or describes objects that lie within the mapping, apart
//! from each other, as this library would have laid them out.

use std::sync::Arc;

use bytemuck::Pod;

use super::input::Input;
use crate::inspect::describe_objects;
use crate::namespace::Namespace;
use crate::object::Handle;
use crate::object::array::{Array, elements_words};
use crate::object::kind::ObjectKind;
use crate::object::map::words::{Class, MapGeometry};
use crate::object::member::Membership;
use crate::object::spec::{InitialValue, ObjectSpec};
use crate::object::table::{Entry, NAME_MAX, Table, layout_of};
use crate::primitive::{Ordering::Relaxed, WORD};
use crate::region::Region;
use crate::region::layout::broadcast::{BroadcastGeometry, BroadcastLayout, SlowPolicy};
use crate::region::layout::header::ElementType;
use crate::region::layout::namespace::ENTRY_WORDS;
use crate::region::layout::queue::{QueueGeometry, QueueLayout};
use crate::region::layout::{Layout, header};
use crate::region::settings::Settings;
use crate::sys::mapping::PAGE;
use crate::types::Shareable;
use crate::wait::WaitStrategy;

/// The largest namespace to make: a larger one would only be slower.
const MAX_BYTES: u64 = 64 * PAGE;

/// Lays out some objects, then changes words of the table and of the queues' headers.
pub fn open_table(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.byte();
    let participants = [1, 2, 5, 65][usize::from(setup & 3)];
    let is_persistent = setup & 4 != 0;
    let specs: Vec<_> =
        (0..=setup >> 3 & 7).map(|index| (name(index, &mut input), spec(participants, &mut input))).collect();
    let Ok((table, layout)) = Table::lay_out(specs, participants, is_persistent) else { return };
    if Layout::Namespace(layout).size() > MAX_BYTES {
        return;
    }
    let region = create_region(Layout::Namespace(layout), &table, InitialValue::Zero);
    assert_eq!(Table::parse(&region).expect("a written table is valid"), table);

    let count = layout.objects as usize;
    let has_header = |entry: &&Entry| entry.spec.nested.is_some() || entry.spec.map.is_some();
    let queues: Vec<usize> = table.entries.iter().filter(has_header).map(|entry| entry.start).collect();
    while let Some(op) = input.next_op() {
        let row = layout.entry(usize::from(op >> 4) % count);
        let word = |index: usize| region.word(row + index);
        match op % 16 {
            // The numbers of another object.
            0 => {
                let spec = spec(participants, &mut input);
                word(1).store(spec.size, Relaxed);
                word(2).store(spec.align, Relaxed);
                word(4).store(spec.count, Relaxed);
            }
            // A word of another entry.
            1 => {
                let other = layout.entry(usize::from(input.byte()) % count);
                let index = usize::from(input.byte()) % ENTRY_WORDS;
                word(index).store(region.word(other + index).load(Relaxed), Relaxed);
            }
            2 => word(6).store(u64::from(input.byte()) * 16, Relaxed),
            3 => word(8 + usize::from(input.byte()) % 8).store(input.word(), Relaxed),
            4..=6 if !queues.is_empty() => {
                let header = queues[usize::from(op >> 4) % queues.len()];
                let word = region.word(header + usize::from(input.byte()) % header::USED);
                word.store(input.invalid_value(word.load(Relaxed)), Relaxed);
            }
            _ => {
                let word = word(usize::from(input.byte()) % ENTRY_WORDS);
                word.store(input.invalid_value(word.load(Relaxed)), Relaxed);
            }
        }
    }
    if let Ok(found) = Table::parse(&region) {
        check_table(&region, &found);
        open_everything(region, &found);
    }
}

/// A name: the same for some objects, and too long for others.
fn name(index: u8, input: &mut Input) -> String {
    match input.byte() {
        0 => String::new(),
        byte @ 1..16 => char::from(b'a' + byte % 4).to_string(),
        16 => "x".repeat(NAME_MAX),
        17 => "é".repeat(NAME_MAX / 2 + 1),
        18 => "two\nlines".to_string(),
        _ => format!("object {index}"),
    }
}

fn spec(participants: usize, input: &mut Input) -> ObjectSpec {
    // Maps and lists have numbers of their own, so that the other numbers keep their meaning.
    let with_own_number = [ObjectKind::Map, ObjectKind::List];
    let mut kinds = ObjectKind::all().filter(|kind| !with_own_number.contains(kind));
    let byte = input.byte();
    let kind = match byte {
        u8::MAX => ObjectKind::Map,
        // Of values, and of bytes.
        0xFE | 0xFD => ObjectKind::List,
        byte => {
            let count = ObjectKind::all().len() - with_own_number.len();
            kinds.nth(usize::from(byte) % count).expect("an index below their number")
        }
    };
    let numbers = [0, 1, 2, 3, 4, 7, 8, 12, 16, 24, 72, 100, 1000, 1 << 20, 1 << 61, u64::MAX];
    let mut number = || numbers[usize::from(input.byte()) % numbers.len()];
    let base = ObjectSpec::without_value(kind, 0);
    match kind {
        ObjectKind::Queue => {
            let element = match number() {
                0 => ElementType::Bytes,
                size => ElementType::Value { size, align: 1, tag: [0; 8] },
            };
            let (capacity, limit) = (number(), number());
            let geometry = QueueGeometry {
                participants: 2 * participants as u64,
                inline_bytes: 16,
                blocks: number(),
                block_bytes: limit,
                extents: 0,
                deliveries: 0,
            };
            let queue = QueueLayout::new(element, capacity.max(1), limit, geometry);
            ObjectSpec { nested: queue.ok().map(Layout::Queue), ..base }
        }
        ObjectKind::Broadcast => {
            let element = match number() {
                0 => ElementType::Bytes,
                size => ElementType::Value { size, align: 1, tag: [0; 8] },
            };
            let geometry = BroadcastGeometry {
                publishers: number(),
                subscribers: number(),
                history: number(),
                policy: SlowPolicy::Wait,
                max_lag: 0,
                slot_bytes: number(),
                keys: number(),
                frames: 0,
                frame_bytes: 0,
            };
            let broadcast = BroadcastLayout::new(element, number().max(1), number(), geometry);
            ObjectSpec { nested: broadcast.ok().map(Layout::Broadcast), ..base }
        }
        ObjectKind::Map => {
            let mut element = || match number() {
                0 => ElementType::Bytes,
                size => ElementType::Value { size, align: 1, tag: [0; 8] },
            };
            let (key, value) = (element(), element());
            let classes = [(); 2].map(|()| Class { words: number(), entries: number(), extent: 0 });
            ObjectSpec { map: MapGeometry::new(key, value, &classes).ok(), ..base }
        }
        ObjectKind::List if byte == 0xFD => ObjectSpec { count: number(), max_element_bytes: number(), ..base },
        ObjectKind::Semaphore | ObjectKind::BoundedSemaphore | ObjectKind::Barrier => {
            ObjectSpec { count: number(), ..base }
        }
        ObjectKind::Condvar | ObjectKind::Event | ObjectKind::Once => base,
        _ => {
            let tag = u64::SHAPE.tag();
            let count = if matches!(kind, ObjectKind::Array | ObjectKind::List) { number() } else { 0 };
            let size = number();
            ObjectSpec { size, align: if size % 8 == 0 { 8 } else { 1 }, tag, count, ..base }
        }
    }
}

fn create_region(layout: Layout, table: &Table, initial: InitialValue) -> Region {
    let region = Region::create(layout, &Settings::default(), false).expect("memory for a small namespace");
    let initial = vec![initial; table.entries.len()];
    table.format(&region, &initial).expect("a descriptor");
    region
}

fn check_table(region: &Region, table: &Table) {
    let layout = *layout_of(region);
    assert_eq!(table.entries.len() as u64, layout.objects);
    let mut end = layout.first_object();
    for (index, entry) in table.entries.iter().enumerate() {
        assert_eq!(entry.start, end, "{entry:?} is not where the one before it ends");
        end += entry.length;
        assert!(entry.length > 0 && entry.start % 16 == 0, "{entry:?}");
        assert_eq!(entry.spec.footprint(layout.participants()), Some(entry.length));
        assert_eq!(table.find(&entry.name).map(|(place, _)| place), Some(index), "two of the name {:?}", entry.name);
        check_parts(entry, layout.participants());
    }
    assert_eq!(end, layout.first_object() + layout.object_words as usize, "words of no object");
    assert!(end * WORD <= region.layout().mapped() as usize);

    // This library could have created it, and would have written the same words.
    let specs = table.entries.iter().map(|entry| (entry.name.clone(), entry.spec)).collect();
    let (copied_table, copied_layout) =
        Table::lay_out(specs, layout.participants(), layout.persistent).expect("the table is valid");
    assert_eq!((&copied_table, copied_layout), (table, layout));
    let copy = create_region(Layout::Namespace(layout), table, InitialValue::Zero);
    for index in layout.entry(0)..layout.first_object() {
        let (found, written) = (region.word(index).load(Relaxed), copy.word(index).load(Relaxed));
        assert_eq!(found, written, "word {} of entry {}", index % 16, (index - layout.entry(0)) / 16);
    }
    for entry in table.entries.iter().filter(|entry| entry.spec.nested.is_some()) {
        for index in (0..header::WORDS).filter(|&index| index != header::REGION_STATE) {
            let word = |region: &Region| region.word(entry.start + index).load(Relaxed);
            assert_eq!(word(region), word(&copy), "word {index} of a queue's header");
        }
    }
    for entry in table.entries.iter().filter(|entry| entry.spec.map.is_some()) {
        // The first word is the seed.
        for index in 1..32 {
            let word = |region: &Region| region.word(entry.start + index).load(Relaxed);
            assert_eq!(word(region), word(&copy), "word {index} of a map's header");
        }
    }
}

/// Asserts that the parts of an object lie within it.
fn check_parts(entry: &Entry, participants: usize) {
    let spec = &entry.spec;
    let is_counted =
        [ObjectKind::Array, ObjectKind::List, ObjectKind::Semaphore, ObjectKind::BoundedSemaphore, ObjectKind::Barrier]
            .contains(&spec.kind);
    assert!(is_counted || spec.count == 0, "it has no count: {spec:?}");
    let is_within = |start: usize, words: Option<usize>| {
        words.and_then(|words| words.checked_add(start)).is_some_and(|end| end <= entry.length)
    };
    let is_sound = match spec.kind {
        ObjectKind::Value | ObjectKind::Mutex | ObjectKind::ReentrantMutex | ObjectKind::RwLock => {
            let buffers = spec.buffers(participants).expect("it holds a value");
            assert!(buffers.count.is_power_of_two() && buffers.stride * WORD >= spec.size as usize);
            is_within(buffers.offset, buffers.stride.checked_mul(buffers.count))
        }
        ObjectKind::Array => is_within(16, elements_words(spec)),
        ObjectKind::List => is_within(0, spec.footprint(participants)),
        ObjectKind::BoundedSemaphore => is_within(16, usize::try_from(spec.count).ok()),
        ObjectKind::Barrier => is_within(16, Some(participants)),
        ObjectKind::Queue => spec.nested.is_some_and(|layout| layout.size() == (entry.length * WORD) as u64),
        ObjectKind::Atomic => spec.size <= WORD as u64,
        _ => spec.size == 0,
    };
    assert!(is_sound, "{spec:?} in {} words", entry.length);
}

/// Joins the namespace, opens each object as several kinds and types, and uses what opens.
fn open_everything(region: Region, found: &Table) {
    let shown = describe_objects(&region, found);
    assert_eq!(shown.len(), found.entries.len());
    let Ok(Some(member)) = Membership::join(region, None) else { panic!("a valid namespace without participants") };
    let member = Arc::new(member);
    let namespace = Namespace::new(Arc::clone(&member), WaitStrategy::Park, Default::default());
    for (index, entry) in found.entries.iter().enumerate() {
        let handle = Handle::new(Arc::clone(&member), index, entry, WaitStrategy::Park);
        assert_eq!(handle.entry(), Some(entry));
        // The words of a queue can be those of another object now, so every result is right.
        let (name, opened) = (&entry.name[..], namespace.with_tag(entry.spec.tag));
        let _ = opened.value::<u64>(name).map(|value| (value.load(), value.try_store(&1)));
        let _ = opened.value::<[u8; 12]>(name).map(|value| (value.load(), value.try_store(&[1; 12])));
        let _ = opened.atomic::<u64>(name).map(|number| number.fetch_add(1));
        let _ = opened.mutex::<u64>(name).map(|lock| drop(lock.try_lock()));
        let _ = opened.reentrant_mutex::<u64>(name).map(|lock| drop(lock.try_lock()));
        let _ = opened.rw_lock::<[u64; 3]>(name).map(|lock| (lock.try_write().is_ok(), lock.try_read().is_ok()));
        let _ = opened.event(name).map(|event| event.is_set());
        let _ = opened.once(name).map(|once| once.is_completed());
        let _ = opened.barrier(name).map(|barrier| barrier.waiting());
        let _ = opened.semaphore(name).map(|permits| permits.try_acquire().map(|permit| permit.forget()));
        let _ = opened.condvar(name).map(|condvar| condvar.notify_all());
        let _ = (opened.queue::<u64>(name), opened.queue_bytes(name));
        let _ = opened.map::<[u8], [u8]>(name).map(|map| (map.insert(b"key", b"value"), map.get(b"key"), map.clear()));
        let _ = opened.map::<u64, [u8; 12]>(name).map(|map| (map.replace(&1, &[1; 12]), map.remove(&1), map.len()));
        let _ = opened.list::<u64>(name).map(|list| (list.push(&1), list.to_vec(), list.remove(0), list.clear()));
        let _ = opened.list::<[u8; 12]>(name).map(|list| (list.insert(0, &[1; 12]), list.len(), list.pop()));
        let _ = opened.list::<[u8]>(name).map(|list| (list.push(b"element"), list.to_vec(), list.pop()));
        let _ = opened.array::<u64>(name).map(|array| use_array(&array));
        let _ = opened.array::<[u8; 12]>(name).map(|array| use_array(&array));
        if let Ok(permits) = opened.bounded_semaphore(name) {
            assert!(permits.available() <= permits.bound());
            let _ = permits.try_acquire_many(permits.bound()).map(|permit| permit.forget());
        }
    }
}

fn use_array<T: Pod + Shareable>(array: &Array<T>) {
    assert!(array.get(array.len()).is_err());
    let last = array.len() - 1;
    let _ = (array.get(last), array.try_lock().map(|mut guard| guard.set(last, T::zeroed())));
}
