//! Histories of what several processes did to one object at the same time, some of them killed or
//! stopped in the middle: there is an order that explains each result.

#[path = "../support/buckets.rs"]
mod buckets;
#[path = "../support/journal.rs"]
mod journal;
#[path = "../support/linearizable.rs"]
mod linearizable;
#[path = "../support/mod.rs"]
mod support;

mod checker;
mod list;
mod map;
mod workers;

use list::change_list;
use map::change_map;

support::child_roles!(change_list, change_map);
