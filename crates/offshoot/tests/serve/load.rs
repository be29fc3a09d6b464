//! Clients that manage lvols while fio writes to others and verifies what it wrote.
//!
//! `cargo xtask load` makes it as large as a node of a cluster; here it only takes a moment. What is measured is printed.
#![expect(clippy::print_stdout, reason = "a campaign prints what it has measured")]

use std::env;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::Program;
use crate::rpc::Client;
use crate::server::{Server, Store, text};

/// Bytes of each lvol that fio writes to, and how many of them.
const EXPORT_MIB: u64 = 64;
const WRITTEN_KIB: u64 = 1024;

/// Writes a second of each of fio's jobs: what makes latencies comparable.
const JOB_IOPS: u64 = 100;

/// Lvols that one client has at most, in MiB at most, and snapshots between one and its base.
const LVOLS_MAX: usize = 8;
const LVOL_MIB_MAX: u64 = 8;

fn setting(name: &str, default: u64) -> u64 {
    env::var(format!("OFFSHOOT_LOAD_{name}")).map_or(default, |text| text.parse().unwrap())
}

/// A generator of random numbers that fits one line: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// An lvol as its client knows it.
#[derive(Clone, Debug)]
struct Lvol {
    name: String,
    is_snapshot: bool,
    parent: Option<String>,
    mib: u64,
}

/// A client of the server's, and what it has made.
struct Manager {
    client: Client,
    random: Random,
    prefix: String,
    made: u64,
    lvols: Vec<Lvol>,
    took: Vec<Duration>,
}

impl Manager {
    fn new(socket: &Path, number: u64, seed: u64) -> Self {
        Self {
            client: Client::connect(socket),
            random: Random(seed ^ number << 32),
            prefix: format!("c{number}"),
            made: 0,
            lvols: Vec::new(),
            took: Vec::new(),
        }
    }

    /// A call that nothing speaks against.
    fn call(&mut self, method: &str, params: &Value) {
        let begun = Instant::now();
        self.client.call(method, params);
        self.took.push(begun.elapsed());
    }

    fn new_name(&mut self) -> String {
        self.made += 1;
        format!("{}-{}", self.prefix, self.made)
    }

    fn pick(&mut self, is_wanted: impl Fn(&Lvol) -> bool) -> Option<usize> {
        let wanted: Vec<usize> = (0..self.lvols.len()).filter(|at| is_wanted(&self.lvols[*at])).collect();
        (!wanted.is_empty()).then(|| wanted[self.random.below(wanted.len())])
    }

    fn clones(&self, name: &str) -> Vec<usize> {
        let of = |at: &usize| self.lvols[*at].parent.as_deref() == Some(name);
        (0..self.lvols.len()).filter(of).collect()
    }

    fn step(&mut self) {
        let has_room = self.lvols.len() < LVOLS_MAX;
        match self.random.below(10) {
            0 | 1 if has_room => self.create(),
            2 if has_room => self.snapshot(),
            3 if has_room => self.clone_one(),
            4 => self.resize(),
            5 => self.rename(),
            6 => self.detach("bdev_lvol_inflate"),
            7 => self.detach("bdev_lvol_decouple_parent"),
            8 => self.call("bdev_lvol_get_lvols", &json!({"lvs_name": "lvs"})),
            _ => self.delete(),
        }
    }

    fn create(&mut self) {
        let (name, mib) = (self.new_name(), 1 + self.random.below(4) as u64);
        let thin = self.random.below(4) > 0;
        let params =
            json!({"lvol_name": name, "size_in_mib": mib, "thin_provision": thin, "lvs_name": "lvs"});
        self.call("bdev_lvol_create", &params);
        self.lvols.push(Lvol { name, is_snapshot: false, parent: None, mib });
    }

    fn snapshot(&mut self) {
        let Some(at) = self.pick(|lvol| !lvol.is_snapshot) else { return };
        let name = self.new_name();
        let lvol = self.lvols[at].clone();
        self.call("bdev_lvol_snapshot", &json!({"lvol_name": alias(&lvol.name), "snapshot_name": name}));
        self.lvols[at].parent = Some(name.clone());
        self.lvols.push(Lvol { name, is_snapshot: true, ..lvol });
    }

    fn clone_one(&mut self) {
        let Some(at) = self.pick(|lvol| lvol.is_snapshot) else { return };
        let (name, snapshot) = (self.new_name(), self.lvols[at].clone());
        self.call("bdev_lvol_clone", &json!({"snapshot_name": alias(&snapshot.name), "clone_name": name}));
        self.lvols.push(Lvol { name, is_snapshot: false, parent: Some(snapshot.name), mib: snapshot.mib });
    }

    fn resize(&mut self) {
        let Some(at) = self.pick(|lvol| !lvol.is_snapshot && lvol.mib < LVOL_MIB_MAX) else { return };
        let (name, mib) = (alias(&self.lvols[at].name), self.lvols[at].mib + 1);
        self.call("bdev_lvol_resize", &json!({"name": name, "size_in_mib": mib}));
        self.lvols[at].mib = mib;
    }

    fn rename(&mut self) {
        let Some(at) = self.pick(|_| true) else { return };
        let (old, new) = (self.lvols[at].name.clone(), self.new_name());
        self.call("bdev_lvol_rename", &json!({"old_name": alias(&old), "new_name": new}));
        for clone in self.clones(&old) {
            self.lvols[clone].parent = Some(new.clone());
        }
        self.lvols[at].name = new;
    }

    /// Inflates or decouples a clone.
    fn detach(&mut self, method: &str) {
        let Some(at) = self.pick(|lvol| !lvol.is_snapshot && lvol.parent.is_some()) else { return };
        let (name, parent) = (self.lvols[at].name.clone(), self.lvols[at].parent.clone());
        self.call(method, &json!({"name": alias(&name)}));
        let above = self.lvols.iter().find(|lvol| Some(&lvol.name) == parent.as_ref());
        let grandparent = above.and_then(|lvol| lvol.parent.clone());
        self.lvols[at].parent = grandparent.filter(|_| method == "bdev_lvol_decouple_parent");
    }

    fn delete(&mut self) {
        let clones: Vec<usize> = self.lvols.iter().map(|lvol| self.clones(&lvol.name).len()).collect();
        let names: Vec<String> = self.lvols.iter().map(|lvol| lvol.name.clone()).collect();
        let can_go =
            |lvol: &Lvol| names.iter().zip(&clones).any(|(name, count)| *name == lvol.name && *count < 2);
        let Some(at) = self.pick(can_go) else { return };
        let gone = self.lvols[at].clone();
        self.call("bdev_lvol_delete", &json!({"name": alias(&gone.name)}));
        for clone in self.clones(&gone.name) {
            self.lvols[clone].parent.clone_from(&gone.parent);
        }
        self.lvols.remove(at);
    }
}

fn alias(name: &str) -> String {
    format!("lvs/{name}")
}

/// Latencies in milliseconds: the middle one, that of which one in a hundred is above, one in a thousand, and the longest.
fn told(what: &str, count: u64, [middle, p99, p999, longest]: [f64; 4]) {
    println!("| {what} | {count} | {middle:.2} | {p99:.2} | {p999:.2} | {longest:.2} |");
}

/// Writes to all exports for some seconds, verifies, and tells how long the writes took.
fn write_and_verify(fio: &Program, uris: &[String], seconds: u64, what: &str, folder: &Path) {
    let report = folder.join("fio.json");
    let common = [
        "--ioengine=nbd".to_owned(),
        "--rw=randwrite".to_owned(),
        "--bs=4k".to_owned(),
        format!("--size={WRITTEN_KIB}k"),
        "--iodepth=4".to_owned(),
        "--verify=crc32c".to_owned(),
        "--verify_fatal=1".to_owned(),
        "--verify_state_save=0".to_owned(),
        format!("--rate_iops={JOB_IOPS}"),
        "--time_based".to_owned(),
        format!("--runtime={seconds}"),
        "--group_reporting".to_owned(),
        "--thread".to_owned(),
        "--output-format=json".to_owned(),
        format!("--output={}", text(&report)),
    ];
    let jobs = uris.iter().enumerate();
    let jobs = jobs.flat_map(|(number, uri)| [format!("--name=job{number}"), format!("--uri={uri}")]);
    let args: Vec<String> = common.into_iter().chain(jobs).collect();
    fio.run_for(seconds + 60, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let report = std::fs::read_to_string(&report).unwrap();
    // Notes may stand in front of it.
    let report: Value = serde_json::from_str(&report[report.find('{').unwrap()..]).unwrap();
    let writes = &report["jobs"][0]["write"];
    let millis = |nanos: &Value| nanos.as_f64().unwrap() / 1e6;
    let percentile = |name: &str| millis(&writes["clat_ns"]["percentile"][name]);
    let latencies = [
        percentile("50.000000"),
        percentile("99.000000"),
        percentile("99.900000"),
        millis(&writes["clat_ns"]["max"]),
    ];
    told(what, writes["total_ios"].as_u64().unwrap(), latencies);
}

/// A store with a golden image and lvols to write to, half of them clones of it.
fn prepare(server: &Server, exports: u64) -> Vec<String> {
    let mut client = Client::connect(&server.rpc_socket());
    let create = |name: &str| json!({"lvol_name": name, "size_in_mib": EXPORT_MIB, "thin_provision": true, "lvs_name": "lvs"});
    client.call("bdev_lvol_create", &create("image"));
    let mut connection = server.connect("lvs/image");
    for at in 0..EXPORT_MIB / 4 {
        connection.write(at << 22, &[0x5a; 1 << 20], 0).unwrap();
    }
    connection.disconnect();
    client.call("bdev_lvol_snapshot", &json!({"lvol_name": "lvs/image", "snapshot_name": "golden"}));
    let name = |number: u64| format!("disk{number}");
    for number in 0..exports {
        if number % 2 == 0 {
            client.call("bdev_lvol_create", &create(&name(number)));
        } else {
            let params = json!({"snapshot_name": "lvs/golden", "clone_name": name(number)});
            client.call("bdev_lvol_clone", &params);
        }
    }
    (0..exports).map(|number| server.uri(&alias(&name(number)))).collect()
}

#[test]
fn lvols_are_managed_while_others_are_written() {
    let Some(fio) = Program::find("fio") else { return };
    let (seconds, clients) = (setting("SECONDS", 2), setting("CLIENTS", 6));
    let (exports, seed) = (setting("EXPORTS", 4), setting("SEED", 1));
    let store = Store::init("lvs", "16G");
    let server = Server::start_with_rpc(&[&store.path]);
    let uris = prepare(&server, exports);
    println!("seed {seed}: {clients} clients, {exports} exports, {seconds} s\n");
    println!("| | count | middle ms | 1 in 100 above | 1 in 1000 above | longest |");
    println!("|---|---|---|---|---|---|");
    if env::var_os("OFFSHOOT_LOAD_SECONDS").is_some() {
        write_and_verify(&fio, &uris, seconds, "writes, nothing else going on", store.path.parent().unwrap());
    }
    let (socket, took) = (server.rpc_socket(), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        let until = Instant::now() + Duration::from_secs(seconds);
        for number in 0..clients {
            let (socket, took) = (&socket, &took);
            scope.spawn(move || {
                let mut manager = Manager::new(socket, number, seed);
                while Instant::now() < until {
                    manager.step();
                }
                took.lock().unwrap().append(&mut manager.took);
            });
        }
        write_and_verify(
            &fio,
            &uris,
            seconds,
            "writes, while lvols are managed",
            store.path.parent().unwrap(),
        );
    });
    let mut took = took.into_inner().unwrap();
    took.sort();
    let at = |part: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = (took.len() as f64 * part) as usize;
        took[index.min(took.len() - 1)].as_secs_f64() * 1e3
    };
    told("calls", took.len() as u64, [at(0.5), at(0.99), at(0.999), at(1.0)]);
    server.stop();
    store.run("check", &[]);
}
