//! NBD over TLS, and who may open what.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::program::{Program, find_all};
use crate::rpc::Client;
use crate::server::{Server, Store, refused, text};
use crate::wire::Connection;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Certificates as the clients of GnuTLS want them: a folder for each client, with the authority of the server.
struct Certificates {
    store: Store,
    authority: Authority,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Certificates {
    fn new() -> Self {
        let store = Store::init("lvs", "64M");
        let this = Self { store, authority: authority("offshoot tests") };
        fs::write(this.path("ca.pem"), this.authority.pem()).unwrap();
        this.sign(&this.authority, "server", &["localhost", "127.0.0.1"]);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.file(name)
    }

    /// Makes the files `NAME.pem` and `NAME.key`.
    fn sign(&self, authority: &Authority, name: &str, subjects: &[&str]) {
        let subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(subjects).unwrap().signed_by(&key, authority).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// The folder of a client whose certificate is for that name.
    fn client(&self, authority: &Authority, name: &str) -> PathBuf {
        self.sign(authority, name, &[name]);
        let folder = self.path(&format!("client-{name}"));
        fs::create_dir(&folder).unwrap();
        fs::copy(self.path("ca.pem"), folder.join("ca-cert.pem")).unwrap();
        fs::copy(self.path(&format!("{name}.pem")), folder.join("client-cert.pem")).unwrap();
        fs::copy(self.path(&format!("{name}.key")), folder.join("client-key.pem")).unwrap();
        folder
    }

    /// A server with TLS on a free port. Returns its address too.
    fn serve(&self, args: &[&str]) -> (Server, SocketAddr) {
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        let tls = ["--tls-cert", text(&certificate), "--tls-key", text(&key), "--nbd", "tcp:127.0.0.1:0"];
        let server = Server::start_with(&[&self.store.path], &[&tls[..], args].concat());
        let place = server.lines.iter().find_map(|line| Some(line.split_once("nbds://")?.1.to_owned()));
        let address = place.as_deref().and_then(|place| place.split_once('/')).unwrap().0.parse().unwrap();
        (server, address)
    }
}

fn uri(address: SocketAddr, export: &str, client: &std::path::Path) -> String {
    format!("nbds://localhost:{}/{export}?tls-certificates={}", address.port(), text(client))
}

#[test]
fn data_goes_through_tls() {
    let Some([nbdinfo, nbdcopy]) = find_all(["nbdinfo", "nbdcopy"]) else { return };
    let certificates = Certificates::new();
    certificates.store.run("create", &["vol", "32M"]);
    let (server, address) = certificates.serve(&[]);
    let client = certificates.client(&certificates.authority, "any");
    let uri = uri(address, "vol", &client);
    let info: Value = serde_json::from_str(&nbdinfo.run(&["--json", &uri])).unwrap();
    assert_eq!((&info["TLS"], &info["exports"][0]["export-size"]), (&json!(true), &json!(32 << 20)));
    let image = certificates.path("image");
    let file = File::create(&image).unwrap();
    file.set_len(32 << 20).unwrap();
    let data: Vec<u8> =
        (0..5_u32 << 18).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    file.write_all_at(&data, 3 << 20).unwrap();
    nbdcopy.run(&[text(&image), &uri]);
    let back = certificates.path("back");
    nbdcopy.run(&["--connections=4", &uri, text(&back)]);
    assert!(fs::read(&image).unwrap() == fs::read(&back).unwrap());
    // Without TLS there is nothing to see on TCP, and everything on the Unix socket; with it on both.
    let plain = nbdinfo.fail(&[&format!("nbd://{address}/vol")]);
    assert!(plain.contains("TLS"), "{plain}");
    nbdinfo.run(&[&server.uri("vol")]);
    let secured = server.uri("vol").replacen("nbd+unix", "nbds+unix", 1);
    let secured = format!("{secured}&tls-certificates={}&tls-hostname=localhost", text(&client));
    // libnbd before 1.22 takes the host's name from the URI, which has none here.
    let info = nbdinfo.run(&["--json", &format!("{secured}&tls-verify-peer=false")]);
    assert_eq!(serde_json::from_str::<Value>(&info).unwrap()["TLS"], true);
    server.stop();
}

#[test]
fn qemu_speaks_tls_too() {
    let Some(qemu_img) = Program::find("qemu-img") else { return };
    let certificates = Certificates::new();
    certificates.store.run("create", &["vol", "8M"]);
    let ca = certificates.path("ca.pem");
    let (server, address) = certificates.serve(&["--tls-ca", text(&ca)]);
    let client = certificates.client(&certificates.authority, "vm1.example");
    let image = certificates.path("image");
    fs::write(&image, vec![6; 8 << 20]).unwrap();
    let credentials = format!("tls-creds-x509,id=tls,endpoint=client,dir={}", text(&client));
    let target = format!(
        "driver=raw,file.driver=nbd,file.host=localhost,file.port={},file.export=vol,file.tls-creds=tls",
        address.port()
    );
    qemu_img.run(&[
        "convert",
        "-n",
        "--target-image-opts",
        "--object",
        &credentials,
        "-f",
        "raw",
        text(&image),
        &target,
    ]);
    assert_eq!(server.connect("vol").read((8 << 20) - 512, 512).unwrap(), [6; 512]);
    server.stop();
}

#[test]
fn clients_show_certificates_and_see_what_they_may() {
    let Some(nbdinfo) = Program::find("nbdinfo") else { return };
    let certificates = Certificates::new();
    for lvol in ["vm1-disk", "vm2-disk", "open"] {
        certificates.store.run("create", &[lvol, "4M"]);
    }
    let ca = certificates.path("ca.pem");
    let rules = ["--allow", "vm1-*=cert:vm1.example", "--allow", "vm2-*=cert:vm2.example,addr:192.0.2.0/24"];
    let (server, address) = certificates.serve(&[&["--tls-ca", text(&ca)][..], &rules].concat());
    let vm1 = certificates.client(&certificates.authority, "vm1.example");
    let stranger = certificates.client(&authority("somebody else"), "vm2.example");
    let listed = |client: &std::path::Path| {
        let list = nbdinfo.run(&["--list", "--json", &uri(address, "", client)]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let names = list["exports"].as_array().unwrap().iter().map(|export| export["export-name"].clone());
        Value::Array(names.collect())
    };
    assert_eq!(listed(&vm1), json!(["vm1-disk", "open"]));
    nbdinfo.run(&[&uri(address, "vm1-disk", &vm1)]);
    // What one may not open is not there, like what is not there.
    let secret = nbdinfo.fail(&[&uri(address, "vm2-disk", &vm1)]);
    let nothing = nbdinfo.fail(&[&uri(address, "vm3-disk", &vm1)]);
    assert_eq!(secret.replace("vm2-disk", "*"), nothing.replace("vm3-disk", "*"));
    nbdinfo.fail(&[&uri(address, "vm2-disk", &stranger)]);
    nbdinfo.fail(&[&uri(address, "open", &stranger)]);

    // The Unix socket shows who connects, and lists can be changed.
    let error = Connection::open(&server.socket, "vm1-disk").unwrap_err();
    assert_eq!(error.to_string(), "no such export");
    let mut client = Client::connect(&server.rpc_socket());
    let allow = |clients: Value| json!({"bdev_name": "lvs/vm1-disk", "clients": clients});
    client.refuse("nbd_allow", &allow(json!(["root"])), -22);
    let me = format!("uid:{}", own_uid());
    client.call("nbd_allow", &allow(json!([me, "cert:vm1.example"])));
    let exports = client.call("nbd_get_exports", &json!({"bdev_name": "lvs/vm1-disk"}));
    assert_eq!(exports[0]["clients"], json!([me, "cert:vm1.example"]));
    drop(server.connect("vm1-disk"));
    nbdinfo.run(&[&uri(address, "vm1-disk", &vm1)]);
    let config = client.call("framework_get_config", &json!({"name": "nbd"}));
    assert_eq!(
        (&config[0]["method"], &config[0]["params"]["clients"]),
        (&json!("nbd_allow"), &json!([me, "cert:vm1.example"]))
    );
    client.call("nbd_allow", &allow(json!([])));
    nbdinfo.fail(&[&uri(address, "vm1-disk", &vm1)]);
    client.call("nbd_allow", &json!({"bdev_name": "lvs/vm1-disk"}));
    nbdinfo.run(&[&uri(address, "vm1-disk", &vm1)]);
    server.stop();
}

/// The user of this process, as `id -u` says.
fn own_uid() -> String {
    let output = std::process::Command::new("id").arg("-u").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What is sent before TLS has begun cannot be what an attacker has put in front of it.
#[test]
fn nothing_comes_between_the_request_for_tls_and_tls() {
    let certificates = Certificates::new();
    certificates.store.run("create", &["vol", "4M"]);
    let (server, address) = certificates.serve(&[]);
    let mut stream = TcpStream::connect(address).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    let option = |number: u32| [&b"IHAVEOPT"[..], &number.to_be_bytes(), &[0; 4]].concat();
    let early = [&3_u32.to_be_bytes()[..], &option(5), &option(3)].concat();
    stream.write_all(&early).unwrap();
    let mut rest = Vec::new();
    // Cut: the end, or a reset.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() <= 20, "at most the ACK: {rest:?}");
    // Bytes that are no TLS end it too, and nobody else notices.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(&[&3_u32.to_be_bytes()[..], &option(5)].concat()).unwrap();
    stream.read_exact(&mut [0; 20]).unwrap();
    stream.write_all(&[0x55; 4096]).unwrap();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(server.connect("vol").read(0, 512).unwrap(), [0; 512]);
    server.stop();
}

#[test]
fn what_is_wrong_with_certificates_is_told() {
    let certificates = Certificates::new();
    let path = |name: &str| text(&certificates.path(name)).to_owned();
    fs::write(certificates.path("empty"), "").unwrap();
    certificates.sign(&certificates.authority, "other", &["other"]);
    let tls = |certificate: &str, key: &str| {
        ["--tls-cert".to_owned(), path(certificate), "--tls-key".to_owned(), path(key)]
    };
    let told = |certificate: &str, key: &str, more: &[&str]| {
        let args = tls(certificate, key);
        refused(&certificates.store.path, &[&args.each_ref().map(String::as_str)[..], more].concat())
    };
    assert!(told("nothing", "server.key", &[]).contains("nothing: "));
    assert!(told("empty", "server.key", &[]).contains("no certificate in it"));
    assert!(told("server.pem", "empty", &[]).contains("empty: "));
    assert!(told("server.pem", "other.key", &[]).contains("other.key"));
    assert!(told("server.pem", "server.key", &["--tls-ca", &path("empty")]).contains("no certificate in it"));
    // Without TLS others would get in as they are.
    let open = refused(&certificates.store.path, &["--nbd", "tcp:0.0.0.0:0"]);
    assert!(open.contains("not a loopback address: clients elsewhere need TLS"), "{open}");
}
