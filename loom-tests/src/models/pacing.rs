//! Models of `src/raw/pacing.rs`: one thread each, since pacing shares no memory.

use crate::raw::pacing::{Pacer, PositionPacer};

/// Returns how many pauses a sequence of finds leads to.
fn pauses(finds: impl IntoIterator<Item = u64>) -> usize {
    let mut pacer = Pacer::new(64);
    finds.into_iter().filter(|&found| pacer.observe(found) > 0).count()
}

#[test]
fn pacer_small_finds_in_a_row_pause_and_nothing_else_does() {
    let times = |count| 0..count;
    assert_eq!(pauses(times(100_000).flat_map(|_| [1, 0])), 0, "ping-pong");
    assert_eq!(pauses(times(100_000).map(|_| 64)), 0, "a stream with a distance");
    assert_eq!(pauses(times(Pacer::MIN_STREAK - 1).map(|_| 1)), 0, "a streak that is too short");
    assert_eq!(pauses(times(Pacer::MIN_STREAK).map(|_| 1)), 1);
    let slow = pauses(times(10 * Pacer::BACKOFF_STREAK).map(|_| 1));
    assert!((2..=10).contains(&slow), "{slow} pauses for a slow peer");
    let fast = |look| if look % (Pacer::MIN_STREAK + 1) == Pacer::MIN_STREAK { 80 } else { 2 };
    assert_eq!(pauses(times(10 * (Pacer::MIN_STREAK + 1)).map(fast)), 10, "a pause that pays is repeated");
    for mut disabled in [Pacer::default(), Pacer::new(0), Pacer::new(1)] {
        assert_eq!(times(100).filter(|_| disabled.observe(1) > 0).count(), 0, "large messages, short rings");
    }
}

#[test]
fn position_pacer_is_due_at_the_observed_end_and_its_pauses_are_bounded() {
    let mut pacer = PositionPacer::new(1024);
    assert!(pacer.is_due(0), "nothing observed yet");
    pacer.observe_end(0, 100);
    assert!(!pacer.is_due(99) && pacer.is_due(100));
    // The other side is always one position ahead.
    let mut pacer = PositionPacer::new(1024);
    let pauses: Vec<u32> = (0..u64::from(Pacer::MIN_STREAK)).map(|n| pacer.observe_end(n, n + 1)).collect();
    assert_eq!(pauses, [0, 0, 0, 0, 0, 0, 0, 192], "three quarters of a quarter");
    // Whatever end is observed, a pause is no longer than that, and never follows another at once.
    for capacity in [1 << 6, 1 << 10, 1 << 20] {
        let (mut pacer, mut before) = (PositionPacer::new(capacity), 0);
        for n in 0..10_000 {
            let end = [n + 1, 0, u64::MAX, n + 255][n as usize % 4];
            let pause = pacer.observe_end(n, if n % 100 < 50 { n + 1 } else { end });
            assert!(pause <= 192 && (before == 0 || pause == 0), "{pause} after {before}");
            before = pause;
        }
    }
    for mut disabled in [PositionPacer::disabled(), PositionPacer::new(1), PositionPacer::new(32)] {
        assert!(!disabled.is_due(1 << 60));
        assert!((0..100).all(|n| disabled.observe_end(n, n + 1) == 0), "short rings");
    }
}
