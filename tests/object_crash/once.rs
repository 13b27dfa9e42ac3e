//! `Once`: calls are cut off.

use tombolo::Namespace;
use tombolo::sync::Once;

use crate::sweeps::{sweep_beside_sleeper, sweep_object};

/// The call is complete if the action has returned, and only then.
#[test]
fn once_call_killed_next_caller_completes_it() {
    let swept = sweep_object(
        |plan| plan.once("once").atomic("begun", 0_u64).atomic("ended", 0_u64),
        |namespace| {
            let once = namespace.once("once").unwrap();
            move || do_once(namespace, &once)
        },
        |namespace, crash| {
            let once = namespace.once("once").unwrap();
            let word = |name| namespace.atomic::<u64>(name).unwrap().load();
            let (done, begun, ended) = (once.is_completed(), word("begun"), word("ended"));
            assert!(ended <= begun && begun <= 1 && (!done || ended == 1));
            assert!(done || begun == 0 || crash.held("once"));
            do_once(namespace, &once);
            assert_eq!(word("begun"), begun + u64::from(!done));
        },
        |namespace| {
            let once = namespace.once("once").unwrap();
            assert!(once.is_completed());
            once.call_once(|| panic!("it is done")).unwrap();
            once.wait().unwrap();
        },
    );
    swept.covers(0, 5);
}

fn do_once(namespace: &Namespace, once: &Once) {
    let add = |name| namespace.atomic::<u64>(name).unwrap().fetch_add(1);
    once.call_once(|| {
        add("begun");
        add("ended");
    })
    .unwrap();
}

#[test]
fn once_complete_killed_sleeper_is_woken() {
    let swept = sweep_beside_sleeper(
        |plan| plan.once("once").atomic("begun", 0_u64).atomic("ended", 0_u64),
        |namespace| namespace.once("once").unwrap().wait().unwrap(),
        |namespace| {
            let once = namespace.once("once").unwrap();
            move || do_once(namespace, &once)
        },
        |survivor, _| do_once(survivor, &survivor.once("once").unwrap()),
        |namespace| assert!(namespace.once("once").unwrap().is_completed()),
    );
    swept.covers(1, 6);
}
