//! What a real SPDK was asked and answered (`testdata/transcripts`), asked of a real server, in one go from the first
//! scenario to the last: each builds on what those before it left.
//!
//! Answers must be equal member by member, but for identities. Every exchange that is answered in another way stands in
//! [`MEANT`] with the reason; one that stands there and is answered as SPDK answered it fails the test.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rpc::Client;
use crate::server::Server;

/// Scenario, number of the exchange in it, and why it is answered in another way (`docs/compat/spdk-rpc.md`).
const MEANT: &[(&str, usize, &str)] = &[
    (
        "01_lvstore",
        7,
        "a store with clusters of 4 KiB has room: a quarter of SPDK's md pages is enough for it",
    ),
    ("01_lvstore", 8, "so there is that store"),
    ("05_resize_readonly", 14, "SPDK had a client on it, said busy, and shrank it all the same"),
    ("05_resize_readonly", 18, "SPDK says writable of a read-only lvol until it is loaded again"),
    ("11_protocol", 6, "the parse error reaches the client"),
];

/// Exchanges that are not repeated.
const LEFT_OUT: &[(&str, usize, &str)] = &[
    ("13_esnap_hotremove", 1, "lists lvols of a scenario that is not among the transcripts"),
    ("13_esnap_hotremove", 2, "lists a store of a scenario that is not among the transcripts"),
    ("13_esnap_hotremove", 3, "a bdev that lvols read from is busy, where SPDK was stuck and the bdev gone"),
];

#[derive(Debug, Deserialize)]
struct Exchange {
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<Value>,
    raw_request: Option<String>,
    raw_response: Option<String>,
}

impl Exchange {
    /// The response, as the members `result` and `error`.
    fn answer(&self) -> Value {
        match &self.error {
            Some(error) => json!({"error": {"code": error["code"], "message": error["message"]}}),
            None => json!({"result": self.result}),
        }
    }
}

fn scenarios() -> Vec<(String, Vec<Exchange>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/transcripts");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let scenario = |path: &Path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
    };
    files.iter().map(|path| scenario(path)).collect()
}

/// A server, the files that SPDK had, and what its identities are here.
struct Replay {
    server: Server,
    client: Client,
    folder: TempDir,
    identities: HashMap<String, String>,
}

impl Replay {
    fn start() -> Self {
        let folder = TempDir::with_prefix_in("rpc-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        for (name, mib) in [("t1.raw", 1024), ("t2.raw", 1024), ("t3.raw", 256), ("esnap.raw", 20)] {
            File::create(folder.path().join(name)).unwrap().set_len(mib << 20).unwrap();
        }
        let server = Server::start_with_rpc(&[]);
        let client = Client::connect(&server.rpc_socket());
        Self { server, client, folder, identities: HashMap::new() }
    }

    /// A value of SPDK's in terms of this server's identities and files.
    fn ours(&self, theirs: &Value) -> Value {
        match theirs {
            Value::String(text) if Path::new(text).extension().is_some_and(|end| end == "raw") => {
                json!(self.folder.path().join(text))
            }
            Value::String(text) => json!(self.identities.get(text).unwrap_or(text)),
            Value::Array(items) => items.iter().map(|item| self.ours(item)).collect(),
            Value::Object(members) => {
                Value::Object(members.iter().map(|(name, value)| (name.clone(), self.ours(value))).collect())
            }
            other => other.clone(),
        }
    }

    /// Asks what SPDK was asked. Returns its answer and SPDK's, both without what may differ.
    fn exchange(&mut self, exchange: &Exchange) -> (Value, Value) {
        let method = exchange.method.as_deref().unwrap();
        let mut answer = self.client.ask(method, &self.ours(&exchange.params));
        while answer["result"]["state"] == "in progress" {
            // It was done when SPDK was asked.
            answer = self.client.ask(method, &self.ours(&exchange.params));
        }
        let made = matches!(
            method,
            "bdev_lvol_create_lvstore"
                | "bdev_lvol_create"
                | "bdev_lvol_snapshot"
                | "bdev_lvol_clone"
                | "bdev_lvol_clone_bdev"
        );
        if made && let (Some(theirs), Some(ours)) = (exchange.result.as_str(), answer["result"].as_str()) {
            self.identities.insert(theirs.to_owned(), ours.to_owned());
        }
        if method == "bdev_lvol_get_lvols" {
            self.learn(&exchange.result, &answer["result"]);
        }
        (plain(answer), plain(self.ours(&exchange.answer())))
    }

    /// Sends bytes and compares what comes back, if SPDK answered at all.
    fn raw(&mut self, exchange: &Exchange) -> Option<(Value, Value)> {
        let (request, response) = (exchange.raw_request.as_ref()?, exchange.raw_response.as_ref()?);
        let theirs: Option<Value> = serde_json::from_str(response).ok();
        let mut client = Client::connect(&self.server.rpc_socket());
        client.send(request.as_bytes());
        match theirs {
            None if request == "not json" => Some((plain(client.receive()), Value::Null)),
            Some(theirs) => Some((plain(client.receive()), plain(self.ours(&theirs)))),
            // A notification: what is asked next is what is answered first.
            None if request.contains("get_lvstores") => {
                assert_eq!(client.ask("framework_wait_init", &Value::Null), json!({"result": true}));
                None
            }
            // SPDK was stuck here, with lvols that read from the bdev.
            None => {
                assert_eq!(client.receive()["error"]["code"], json!(-16));
                None
            }
        }
    }

    /// Writes the first blocks of clusters of 4 MiB, as SPDK's client did between two exchanges.
    fn write(&self, lvol: &str, clusters: std::ops::Range<u64>) {
        let mut connection = self.server.connect(&format!("lvs0/{lvol}"));
        for cluster in clusters {
            connection.write(cluster << 22, &[7; 4096], 0).unwrap();
        }
        connection.flush().unwrap();
        connection.disconnect();
    }

    /// What happened to SPDK's stores before an exchange, and what is done by hand in the place of what is not among the
    /// transcripts.
    fn prepare(&mut self, scenario: &str, number: usize) {
        match (scenario, number) {
            ("03_snapshot_clone", 0) => self.write("thin", 0..2),
            ("06_inflate_decouple", 1) => self.write("i", 0..3),
            ("06_inflate_decouple", 2) => {
                self.write("i", 1..2);
                self.write("i", 3..4);
            }
            ("06_inflate_decouple", 3) => self.write("i", 2..3),
            ("08_shallow_copy", 0) => self.make_set_parent_scenario(),
            ("09_esnap", 12) => self.write("ec", 0..1),
            ("10_grow", 4) => self.lengthen("t3.raw", 512),
            // Further than the masks reach.
            ("10_grow", 8) => self.lengthen("t3.raw", 200 << 10),
            _ => {}
        }
    }

    fn lengthen(&self, file: &str, mib: u64) {
        File::options().write(true).open(self.folder.path().join(file)).unwrap().set_len(mib << 20).unwrap();
    }

    /// What the seventh scenario, which is not among the transcripts, left: two clones of a snapshot.
    fn make_set_parent_scenario(&mut self) {
        self.create("p", 32);
        self.write("p", 0..1);
        self.call("bdev_lvol_snapshot", json!({"lvol_name": "lvs0/p", "snapshot_name": "ps"}));
        self.create("q", 32);
        self.call("bdev_lvol_set_parent", json!({"lvol_name": "lvs0/q", "parent_name": "lvs0/ps"}));
        self.write("q", 1..2);
    }

    fn create(&mut self, name: &str, mib: u64) {
        let params =
            json!({"lvol_name": name, "size_in_mib": mib, "thin_provision": true, "lvs_name": "lvs0"});
        self.call("bdev_lvol_create", params);
    }

    fn call(&mut self, method: &str, params: Value) {
        self.client.call(method, &params);
    }

    /// Lvols that were made by hand have identities too.
    fn learn(&mut self, theirs: &Value, ours: &Value) {
        for lvol in theirs.as_array().into_iter().flatten() {
            let mut named = ours.as_array().into_iter().flatten();
            let Some(same) = named.find(|other| other["name"] == lvol["name"]) else { continue };
            if let (Some(theirs), Some(ours)) = (lvol["uuid"].as_str(), same["uuid"].as_str()) {
                self.identities.entry(theirs.to_owned()).or_insert_with(|| ours.to_owned());
            }
        }
    }
}

/// An answer without what is not compared: the order of lists, clusters that the metadata takes, and whether lvols are
/// claimed, which they are where SPDK exported them over NVMe-oF.
fn plain(answer: Value) -> Value {
    match answer {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(plain).collect();
            items.sort_by_key(|item| item.get("name").map_or_else(|| item.to_string(), Value::to_string));
            Value::Array(items)
        }
        Value::Object(mut members) => {
            if let (Some(total), Some(free)) =
                (members.remove("total_data_clusters"), members.remove("free_clusters"))
            {
                let used = total.as_u64().unwrap() - free.as_u64().unwrap();
                members.insert("used_clusters".to_owned(), json!(used));
            }
            if members.get("product_name") == Some(&json!("Logical Volume")) {
                members.remove("claimed");
                members.remove("claim_type");
                // Lvols are flushed here.
                members["supported_io_types"]["flush"].take();
            }
            Value::Object(members.into_iter().map(|(name, value)| (name, plain(value))).collect())
        }
        other => other,
    }
}

/// Where two answers differ.
fn differences(path: String, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            for (name, value) in one {
                differences(format!("{path}.{name}"), value, &other[name], found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, value) in one.iter().enumerate() {
                differences(format!("{path}[{index}]"), value, &other[index], found);
            }
        }
        _ if ours != theirs => found.push(format!("    {path}: ours {ours}, theirs {theirs}")),
        _ => {}
    }
}

#[test]
fn spdk_transcripts() {
    let mut replay = Replay::start();
    let mut wrong = Vec::new();
    let mut equal = 0;
    for (scenario, exchanges) in scenarios() {
        for (number, exchange) in exchanges.iter().enumerate() {
            let stands_in = |list: &[(&str, usize, &str)]| {
                list.iter().any(|(name, index, _)| *name == scenario && *index == number)
            };
            if stands_in(LEFT_OUT) {
                continue;
            }
            replay.prepare(&scenario, number);
            let answers = match &exchange.method {
                Some(_) => Some(replay.exchange(exchange)),
                None => replay.raw(exchange),
            };
            let Some((ours, theirs)) = answers else { continue };
            let differs = stands_in(MEANT);
            match (ours == theirs, differs) {
                (true, false) => equal += 1,
                (false, true) => {}
                (true, true) => wrong.push(format!("{scenario} {number}: is as with SPDK")),
                (false, false) => {
                    let asked = exchange.method.as_ref().or(exchange.raw_request.as_ref());
                    wrong.push(format!("{scenario} {number}: {asked:?} {}", exchange.params));
                    differences(String::new(), &ours, &theirs, &mut wrong);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{equal} are equal, but:\n{}", wrong.join("\n"));
    assert!(equal > 150, "only {equal}");
    replay.server.stop();
}
