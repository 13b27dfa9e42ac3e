//! How much a look after others may cost, and what the kernel has said so far.
//!
//! Each question about a lane is one or two system calls, and a look at /proc if its lock is free. With thousands of lanes, or of locks
//! through which the kernel has to search, that adds up to seconds, and words that a peer wrote can make every lane worth a question. So each
//! call asks for a while only, and the next one goes on where it stopped.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::region::Region;
use crate::region::participant::{LEAVING, PRESENT, ParticipantStatus, VACANT};
use crate::sys::Deadline;

/// How long one call looks after others.
const TIME: Duration = Duration::from_millis(1);

/// What is had even when the deadline is near or over. Otherwise one who never waits for long would never get anything done.
const AT_LEAST: Duration = Duration::from_micros(200);

/// Lanes that one call asks the kernel about.
pub(crate) const QUESTIONS: usize = 64;

/// Shared words that are looked at between two looks at the clock.
const STRETCH: usize = 256;

thread_local! {
    /// Shared words that this thread has looked at on behalf of others, for tests.
    static VISITED: Cell<u64> = const { Cell::new(0) };
}

/// See [`VISITED`].
pub(crate) fn visited() -> u64 {
    VISITED.get()
}

/// What one look after others may still cost.
pub(crate) struct Budget {
    end: Option<Instant>,
    most: usize,
    questions: Cell<usize>,
    words: Cell<usize>,
    is_fresh: Cell<bool>,
    is_spent: Cell<bool>,
}

impl Budget {
    fn new(end: Option<Instant>, most: usize) -> Self {
        Self {
            end,
            most,
            questions: Cell::new(most),
            words: Cell::new(0),
            is_fresh: Cell::new(true),
            is_spent: Cell::new(false),
        }
    }

    /// For a call that has to be back by then.
    pub(crate) fn until(deadline: Deadline) -> Self {
        let now = Instant::now();
        let end = deadline.map_or(now + TIME, |deadline| deadline.min(now + TIME));
        Self::new(Some(end.max(now + AT_LEAST)), QUESTIONS)
    }

    /// For a call that may take long, as often as it has to.
    pub(crate) fn few_questions() -> Self {
        Self::new(None, QUESTIONS)
    }

    /// For a call that is to do everything.
    pub(crate) fn unlimited() -> Self {
        Self::new(None, usize::MAX)
    }

    /// As much again, in what is left of the time; a little is left in any case.
    pub(crate) fn again(&self) -> Self {
        Self::new(self.end.map(|end| end.max(Instant::now() + AT_LEAST)), self.most)
    }

    /// Whether anything was refused.
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent.get()
    }

    fn is_late(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Whether the kernel may be asked about one more lane. The first time it may in any case: so each call gets on.
    pub(crate) fn ask(&self) -> bool {
        let is_first = self.is_fresh.replace(false);
        let left = self.questions.get();
        if left == 0 || !is_first && self.is_late() {
            self.is_spent.set(true);
            return false;
        }
        self.questions.set(left - 1);
        true
    }

    /// Whether so many more shared words may be looked at.
    pub(crate) fn visit(&self, words: usize) -> bool {
        VISITED.set(VISITED.get() + words as u64);
        let since = self.words.get() + words;
        if since < STRETCH {
            self.words.set(since);
            return true;
        }
        self.words.set(0);
        let late = self.is_late();
        self.is_spent.set(late || self.is_spent.get());
        !late
    }
}

/// What the kernel said of one lane.
#[derive(Clone, Copy)]
struct Verdict {
    /// Who it was about: how many had sat there.
    joins: u64,
    standing: ParticipantStatus,
    round: u64,
}

/// What the kernel said of the lanes of a region. That somebody lives is remembered for one round only; that somebody is dead stays true: nobody
/// sits down in that lane before it is repaired, and who does then is another one.
#[derive(Default)]
pub(crate) struct Verdicts {
    lanes: Vec<Option<Verdict>>,
    round: u64,
    /// How many deaths were found so far.
    pub(crate) found: u64,
}

impl Verdicts {
    /// From here on everybody who lived may have died.
    pub(crate) fn begin(&mut self, region: &Region) {
        self.round += 1;
        self.lanes.resize(region.layout().seats(), None);
    }

    /// What is to be said of a lane. None: the budget does not allow a question.
    pub(crate) fn standing(&mut self, region: &Region, lane: usize, budget: &Budget) -> Option<ParticipantStatus> {
        match region.state(lane) {
            PRESENT | LEAVING => {}
            VACANT => return Some(ParticipantStatus::Vacant),
            // Left, or repaired: nobody is there.
            _ => return Some(ParticipantStatus::Left),
        }
        let joins = region.joins(lane);
        let known = self.lanes.get(lane).copied().flatten().filter(|known| {
            known.joins == joins && (known.round == self.round || known.standing == ParticipantStatus::Dead)
        });
        if let Some(known) = known {
            return Some(known.standing);
        }
        if !budget.ask() {
            return None;
        }
        let standing = region.standing(lane);
        if !region.is_occupied(lane) || region.joins(lane) != joins {
            return Some(ParticipantStatus::Alive); // somebody has just come or gone: another time
        }
        self.found += u64::from(standing == ParticipantStatus::Dead);
        if let Some(place) = self.lanes.get_mut(lane) {
            *place = Some(Verdict { joins, standing, round: self.round });
        }
        Some(standing)
    }
}

/// Where the looks of one participant after the others have got.
#[derive(Default)]
pub(crate) struct Patrol {
    pub(crate) verdicts: Verdicts,
    pub(crate) cursor: usize,
}

/// What one look has done.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tended {
    /// Lanes that serve again.
    pub(crate) repaired: usize,
    /// Lanes that it is done with.
    pub(crate) passed: usize,
}

impl Patrol {
    /// The next of the dead, up to `most`, and how many lanes that takes one past. A lane of one's own is left out.
    pub(crate) fn find(
        &mut self,
        region: &Region,
        own: Option<usize>,
        most: usize,
        budget: &Budget,
    ) -> (Vec<usize>, usize) {
        let lanes = region.layout().seats();
        self.verdicts.begin(region);
        self.cursor = if self.cursor < lanes { self.cursor } else { 0 };
        let (mut dead, mut passed) = (Vec::new(), 0);
        while passed < lanes && dead.len() < most && budget.visit(1) {
            let lane = (self.cursor + passed) % lanes;
            if Some(lane) != own {
                match self.verdicts.standing(region, lane, budget) {
                    None => break,
                    Some(ParticipantStatus::Dead) => dead.push(lane),
                    Some(_) => {}
                }
            }
            passed += 1;
        }
        (dead, passed)
    }

    /// The next look begins so many lanes further.
    pub(crate) fn pass(&mut self, region: &Region, passed: usize) {
        self.cursor = (self.cursor + passed) % region.layout().seats().max(1);
    }
}
