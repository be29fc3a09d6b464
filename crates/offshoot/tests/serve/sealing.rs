//! `serve --seal`: a store becomes SPDK's while its clients go on, now or the next time.

use crate::server::{Server, Store, refused};

const CLUSTER: u64 = 256 << 10;
const BLOCK: usize = 4096;

/// A store whose clone holds one block in each of `clusters` clusters.
fn native(clusters: u64) -> Store {
    let store = Store::init("lvs", "128M");
    store.run("create", &["vol", "32M"]);
    let server = store.serve();
    let mut client = server.connect("vol");
    client.write(0, &vec![0x11; usize::try_from(clusters * CLUSTER).unwrap()], 0).unwrap();
    client.disconnect();
    server.stop();
    store.run("snapshot", &["vol=base"]);
    let server = store.serve();
    let mut client = server.connect("vol");
    for cluster in 0..clusters {
        client.write(cluster * CLUSTER, &[0x22; BLOCK], 0).unwrap();
    }
    client.disconnect();
    server.stop();
    assert_eq!(store.info("sealed"), false);
    store
}

#[test]
fn clients_go_on_while_it_seals() {
    let store = native(16);
    let mut server = Server::start(&[&store.path], &["--seal"]);
    let mut client = server.connect("vol");
    for cluster in 0..32 {
        client.write(cluster * CLUSTER + BLOCK as u64, &[0x33; BLOCK], 0).unwrap();
    }
    let done = format!("{}: nothing is left to seal", store.path.display());
    assert!(server.line().starts_with(&done));
    // From now on a first write takes a whole cluster: nothing that only we can read arises again.
    client.write(40 * CLUSTER, &[0x44; 512], 0).unwrap();
    for cluster in 0..16 {
        let bytes = client.read(cluster * CLUSTER, 4 * BLOCK).unwrap();
        let blocks: Vec<u8> = bytes.chunks(BLOCK).map(|block| block[0]).collect();
        assert_eq!(blocks, [0x22, 0x33, 0x11, 0x11], "cluster {cluster}");
    }
    client.disconnect();
    server.stop();
    assert_eq!(store.info("sealed"), true);
    store.run("check", &[]);
}

#[test]
fn what_a_slow_one_leaves_the_next_one_does() {
    let store = native(16);
    for _ in 0..2 {
        // Too slow for more than the cluster that it begins with.
        let server = Server::start(&[&store.path], &["--seal", "--rate", "1"]);
        let mut client = server.connect("vol");
        assert_eq!(client.read(0, BLOCK).unwrap(), [0x22; BLOCK]);
        client.disconnect();
        server.stop();
        assert_eq!(store.info("sealed"), false);
    }
    // What is left is told by the command that would do it.
    let sealed = store.copy().run("seal", &[]);
    assert!(sealed.starts_with("clusters to fill in: 14;"), "{sealed}");
    let mut server = Server::start(&[&store.path], &["--seal", "--rate", "1G"]);
    server.line();
    server.stop();
    assert_eq!(store.info("sealed"), true);
    store.run("check", &[]);
}

#[test]
fn a_rate_of_nothing_is_refused() {
    let store = Store::init("lvs", "64M");
    let refused = refused(&store.path, &["--seal", "--rate", "0"]);
    assert_eq!(refused, "offshoot: --rate 0: sealing would never end\n");
    assert_eq!(store.info("clean"), true);
}
