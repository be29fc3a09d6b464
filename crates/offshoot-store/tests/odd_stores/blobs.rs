//! Maps, names and descriptors that SPDK does not write today, or never did.

use crate::case::Case;
use crate::lvols::{Lvols as _, pattern};
use crate::plain_maker::{Blob, INTERNAL, TABLE, id_of, short_name, uuid_value};
use crate::with;
use offshoot_format::BlobId;
use offshoot_store::Error;

const ODD: usize = 5;

/// A thin lvol for which a test has something odd in mind.
fn odd() -> Blob {
    Blob::thin("odd", ODD, "x.x")
}

#[test]
fn runs() {
    let scattered = Blob::thin("odd", ODD, "x.x.x.x.xx").in_runs();
    Case::new("runs", with(scattered.clone())).renaming(ODD).run();
    let short = Blob { runs_max: 2, ..scattered.clone() };
    Case::new("runs in several descriptors", with(short)).renaming(ODD).run();
    let mut long = Blob { runs_max: 2, ..scattered };
    long.set_xattr("filler", &[1; 4000]);
    Case::new("runs on a chain page", with(long)).renaming(ODD).run();
    let written = Case::new("runs, written to", with(Blob::thin("odd", ODD, "x..").in_runs()));
    written.writing(ODD).run();
}

#[test]
fn extent_pages_of_others() {
    let blob = Blob { extent_page_id: Some(id_of(2)), ..odd() };
    Case::new("an extent page with another's id", with(blob.clone())).renaming(ODD).run();
    Case::new("an extent page with another's id, written to", with(blob)).writing(ODD).run();
}

#[test]
fn without_clusters() {
    Case::new("no clusters, a table", with(Blob::thin("odd", ODD, ""))).renaming(ODD).run();
    Case::new("no clusters, no table", with(Blob::thin("odd", ODD, "").in_runs())).renaming(ODD).run();
}

#[test]
fn a_flag_that_disagrees_with_the_map() {
    for (name, sound) in [("a table without its flag", odd()), ("runs with the flag", odd().in_runs())] {
        let blob = Blob { flags: [sound.flags[0] ^ TABLE, 0, 0], ..sound.clone() };
        Case::new(name, with(blob.clone())).odd(&["the flag EXTENT_TABLE is wrong"]).run();
        Case::new(name, with(blob)).renaming(ODD).flags(sound.flags).run();
    }
}

#[test]
fn names() {
    let mut short = odd();
    short.set_xattr("name", &short_name("odd"));
    Case::new("a renamed lvol", with(short)).run();
    let mut bare = odd();
    bare.set_xattr("name", b"odd");
    let case = Case::new("a name without its NUL", with(bare)).odd(&["no name or no uuid"]);
    assert_eq!(case.open().id("odd"), BlobId(id_of(ODD)));
    case.run();
}

#[test]
fn no_name() {
    let case = Case::new("no name", with(odd().without_xattr("name"))).odd(&["no name or no uuid"]);
    let store = case.open();
    let listed = store.state().blob(BlobId(id_of(ODD))).unwrap().display_name();
    assert_eq!(listed, "blob-0x100000005");
    case.run();
}

#[test]
fn uuids() {
    let mut bad = odd();
    bad.set_xattr("uuid", b"no-uuid-at-all\0");
    for (name, blob) in [("no uuid", odd().without_xattr("uuid")), ("a bad uuid", bad)] {
        let case = Case::new(name, with(blob)).odd(&["no name or no uuid"]).renaming(ODD);
        assert_eq!(case.open().state().blob(BlobId(id_of(ODD))).unwrap().uuid(), None, "{name}");
        case.run();
    }
    let mut null = odd();
    null.set_xattr("uuid", b"00000000-0000-0000-0000-000000000000\0");
    Case::new("a null uuid", with(null)).renaming(ODD).run();
}

#[test]
fn duplicates() {
    let case = Case::new("a name twice", with(Blob::thin("vm", ODD, "x.x")));
    let case = case.finds(&["the same name"]).odd(&["two lvols are named"]);
    assert_eq!(case.open().id("vm"), BlobId(id_of(1)));
    case.run();
    let mut twin = odd();
    twin.set_xattr("uuid", &uuid_value(1));
    Case::new("a uuid twice", with(twin)).renaming(ODD).run();
}

#[test]
fn what_nobody_knows_is_kept() {
    let mut blob = odd();
    blob.set_xattr("vendor", b"something");
    blob.flags[0] |= INTERNAL;
    blob.internal_xattrs.push((b"VENDOR".to_vec(), vec![1, 2, 3]));
    Case::new("unknown xattrs", with(blob.clone())).renaming(ODD).run();
    blob.unknown = vec![(0x21, vec![4, 5, 6]), (0x22, Vec::new())];
    Case::new("unknown descriptors", with(blob)).odd(&["descriptor 33", "descriptor 34"]).renaming(ODD).run();
}

#[test]
fn external_clones() {
    let uuid = uuid_value(77);
    let text = String::from_utf8(uuid[..36].to_vec()).unwrap();
    for (name, id, shown) in [
        ("an external clone", uuid.as_slice(), text.as_str()),
        ("an external id that is no uuid", b"disk-7", "disk-7"),
    ] {
        let plan = || with(odd().external_clone_of(id));
        Case::new(name, plan()).over(shown, 0x5a).renaming(ODD).run();
        Case::new(name, plan()).over(shown, 0x5a).writing(ODD).run();
    }
}

/// Without the device it is listed, reads what it holds itself, and refuses the rest. It stays what it is.
#[test]
fn an_external_clone_without_its_device() {
    let lvol = BlobId(id_of(ODD));
    let case = Case::new("degraded", with(odd().external_clone_of(&uuid_value(77))));
    let mut store = case.open();
    let cluster = u64::from(case.made.plan.cluster_size);
    assert!(store.engine().is_degraded(lvol) && store.findings().is_empty());
    assert_eq!(store.read(lvol, 0, 512).unwrap().as_slice(), &case.made.content(ODD)[..512]);
    assert!(matches!(store.read(lvol, cluster, 512), Err(Error::Degraded(_))));
    store.write(lvol, 0, pattern(512, 3)).unwrap();
    let vm = store.id("vm");
    store.write(vm, cluster, pattern(512, 4)).unwrap();
    let (device, closed) = store.close();
    closed.unwrap();
    let after = device.content();
    for page in &case.made.md_pages[ODD] {
        let at = case.made.md_offset(*page);
        assert!(after[at..at + 4096] == case.made.bytes[at..at + 4096], "md page {page}");
    }
}
