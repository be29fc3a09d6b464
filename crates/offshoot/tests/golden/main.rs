//! The golden stores: what SPDK made we read as SPDK does, leave alone when there is nothing to do, and hand back
//! as something that SPDK can go on with.
#![allow(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod agreement;
mod crashed;
mod damage;
mod image;
mod session;

#[path = "../common/mod.rs"]
mod common;
#[path = "../../../offshoot-store/tests/common/plain_checker.rs"]
mod plain_checker;

use common::golden::{CLEAN, GoldenStore};
use image::Opened;

/// One test for each store, so that each is unpacked once.
macro_rules! stores {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                every_stage(stringify!($name));
            }
        )*

        #[test]
        fn every_clean_store_has_its_test() {
            assert_eq!([$(stringify!($name)),*], CLEAN);
        }
    };
}

stores!(empty, empty_512, thick, thin, chain, many, small_cluster, noet, large, esnap);

fn every_stage(name: &'static str) {
    let Some(store) = GoldenStore::load(name) else {
        return;
    };
    let opened = Opened::new(store);
    let untouched = opened.fingerprint();

    agreement::info_and_ls_say_what_spdk_said(&opened);
    agreement::exports_hold_what_spdk_read(&opened);
    agreement::a_second_reading_says_the_same(&opened);
    assert_eq!(opened.fingerprint(), untouched, "{name}: looking changed the store");

    session::opened_and_closed_without_a_change(&opened);
    assert_eq!(opened.fingerprint(), untouched, "{name}: a session without a change changed the store");

    session::a_session_of_verbs_and_writes(&opened);
    assert_ne!(opened.fingerprint(), untouched, "{name}: the session left no trace");
    agreement::check_finds_nothing(&opened);
}
