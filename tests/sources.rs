//! Backends from sources that are asked over HTTP, through the real program: a URL that does everything wrong, and Consul, Kubernetes
//! and Docker themselves where they are there (`scripts/soak sources` fetches and builds them).
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "servers/http_list.rs"]
mod http_list;
mod ports;
#[path = "servers/program.rs"]
mod program;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use http_list::HttpList;
use ports::free_port;
use program::{Balancer, Guard, eventually};

/// A balancer whose pool has this source.
fn start(from: &str) -> Balancer {
    Balancer::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:{}', pool: p }} }}\n\
         pools: {{ p: {{ health: {{ check: off }}, backends: [{{ from: {{ {from} }} }}] }} }}\n",
        free_port()
    ))
}

/// The backends that get something new, by name; of the others, each with its reason.
fn found(balancer: &Balancer) -> Vec<String> {
    let pool = balancer.pool();
    let backends = pool["backends"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<String> = backends
        .iter()
        .filter(|one| one["state"] != "leaving")
        .map(|one| {
            let name = one["name"].as_str().unwrap_or("-");
            match one["cause"].as_str().filter(|_| one["state"] == "drain") {
                Some(why) => format!("{name} ({why})"),
                None => name.to_owned(),
            }
        })
        .collect();
    all.sort();
    all
}

fn state(balancer: &Balancer) -> (String, String) {
    let source = balancer.pool()["sources"][0].clone();
    let text = |key: &str| source[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("why"))
}

fn command(balancer: &Balancer, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let output = command.args(words).arg("--socket").arg(balancer.folder.path().join("admin.sock"));
    String::from_utf8(output.output().unwrap().stdout).unwrap()
}

/// Asked at once until it stands so.
#[track_caller]
fn stands(balancer: &Balancer, expected: &str, why: &str) {
    eventually(&format!("{expected}: {why}"), || {
        command(balancer, &["refresh"]);
        let (state, told) = state(balancer);
        state == expected && told.contains(why)
    });
}

#[test]
fn a_url_lists_and_whatever_else_it_answers_changes_nothing() {
    let server = HttpList::start();
    server.lists("[10.0.0.1:1, {address: 10.0.0.2:1, name: b, weight: 0}]", Some("\"one\""));
    let balancer = start(&format!("http: {{ url: 'http://127.0.0.1:{}/pg?a=1', every: 1s }}", server.port));
    eventually("both are found", || found(&balancer).len() == 2);
    let asked = server.asked().1;
    assert!(asked.starts_with("get /pg?a=1 http/1.1"), "{asked}");
    assert!(asked.contains("x-prometheus-refresh-interval-seconds: 1"), "{asked}");
    let before = server.asked().0;
    eventually("it is asked with the tag", || {
        server.asked().0 > before + 1 && server.asked().1.contains("if-none-match: \"one\"")
    });
    assert_eq!(state(&balancer).0, "ok", "not modified is an answer");
    for (answer, why) in [
        ("HTTP/1.1 500 Oops\r\nContent-Length: 22\r\n\r\n<html>hunter2</html>\r\n", "HTTP 500"),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://b.test/x?k=hunter2\r\nContent-Length: 0\r\n\r\n",
            "http://b.test/x;",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[]", "cut off"),
        ("HTTP/1.1 200 OK\r\n\r\n10.0.0.3:1\n", "neither its length nor its end"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n[10.0.0.1:99999", "pg:1:"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n<html>hunter2</html>", "a page of HTML"),
        ("nonsense\r\n\r\n", "does not speak HTTP/1.1"),
        ("", "cut off"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", ""),
    ] {
        server.says(answer);
        stands(&balancer, if why.is_empty() { "nobody" } else { "failing" }, why);
        assert_eq!(found(&balancer).len(), 2, "after {answer}");
    }
    assert!(!balancer.log().contains("hunter2"), "nothing of a body is told");
    server.lists(
        r#"[{"targets": ["10.0.0.4:1"], "labels": {"name": "c"}}, {"targets": ["10.0.0.1:1"]}]"#,
        None,
    );
    eventually("the new list serves", || {
        let all = found(&balancer);
        all.iter().any(|one| one.starts_with('c')) && !all.iter().any(|one| one.starts_with('b'))
    });
}

#[test]
fn a_token_is_read_anew_and_one_that_everybody_can_read_is_refused() {
    let server = HttpList::start();
    server.lists("[10.0.0.1:1]", None);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let put = |text: &str, mode: u32| {
        fs::write(&token, text).unwrap();
        fs::set_permissions(&token, Permissions::from_mode(mode)).unwrap();
    };
    put("hunter1\n", 0o644);
    let balancer = start(&format!(
        "http: {{ url: 'http://127.0.0.1:{}/', every: 1s, token_file: '{}' }}",
        server.port,
        token.display()
    ));
    stands(&balancer, "failing", "chmod o-r");
    assert_eq!(server.asked().0, 0, "nobody heard of it");
    put("hunter1\n", 0o600);
    stands(&balancer, "ok", "");
    assert!(server.asked().1.contains("authorization: bearer hunter1"));
    put("hunter2\n", 0o600);
    eventually("the new one is sent", || server.asked().1.contains("authorization: bearer hunter2"));
    fs::remove_file(&token).unwrap();
    stands(&balancer, "failing", "No such file");
    let shown =
        balancer.log() + &command(&balancer, &["status", "--json"]) + &command(&balancer, &["sources"]);
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn a_source_that_is_silent_keeps_nobody_waiting() {
    let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let balancer = start(&format!("http: 'http://127.0.0.1:{}/'", door.local_addr().unwrap().port()));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(state(&balancer).0, "waiting");
    eventually("it is told", || {
        state(&balancer) == ("failing".to_owned(), "no answer within 10 s".to_owned())
    });
}

/// Where `scripts/soak sources` put what it fetched and built.
#[track_caller]
fn lab(file: &str) -> PathBuf {
    let folder = std::env::var("EVENKEEL_LAB").unwrap_or("target/lab".to_owned());
    let path = Path::new(&folder).join(file);
    assert!(path.is_file(), "{} is not there: scripts/soak sources fetches it", path.display());
    path.canonicalize().unwrap()
}

/// Runs curl; its output.
fn curl(words: &[&str]) -> String {
    let output = Command::new("curl").args(["-s", "-m", "20"]).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// How long until this holds, looked at every few milliseconds.
#[track_caller]
fn took(what: &str, holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    eventually(what, holds);
    println!("{what}: {:?}", began.elapsed());
    began.elapsed()
}

/// A Consul agent with state in memory.
struct Consul {
    agent: Guard,
    folder: tempfile::TempDir,
    base: String,
    acl: bool,
}

const MASTER: &str = "11111111-1111-1111-1111-111111111111";

impl Consul {
    fn start(acl: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Most of its ports are told by the first.
        let ports = [(); 5].map(|()| free_port());
        let rules = if acl {
            format!(
                r#","acl":{{"enabled":true,"default_policy":"deny","tokens":{{"master":"{MASTER}","agent":"{MASTER}"}}}}"#
            )
        } else {
            String::new()
        };
        let config = format!(
            r#"{{"disable_update_check":true,"performance":{{"raft_multiplier":1}},"ports":{{"http":{},"dns":-1,"serf_lan":{},
               "serf_wan":{},"server":{},"grpc":-1}}{rules}}}"#,
            ports[0], ports[1], ports[2], ports[3]
        );
        fs::write(folder.path().join("c.json"), config).unwrap();
        let base = format!("http://127.0.0.1:{}", ports[0]);
        let agent = Self::spawn(folder.path());
        let consul = Self { agent, folder, base, acl };
        consul.leads();
        consul
    }

    fn spawn(folder: &Path) -> Guard {
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new(lab("usr/bin/consul"));
        let command =
            command.args(["agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", "-config-file"]);
        Guard::spawn(command.arg(folder.join("c.json")).stderr(log))
    }

    fn leads(&self) {
        eventually("Consul has a leader", || {
            curl(&[&format!("{}/v1/status/leader", self.base)]).contains(':')
                && self.put("/v1/agent/service/register", r#"{"Name":"other"}"#).is_empty()
        });
    }

    /// Killed, and back without what it knew.
    fn wipe(&mut self) {
        self.agent = Self::spawn(self.folder.path());
        self.leads();
    }

    fn put(&self, path: &str, body: &str) -> String {
        let token = format!("X-Consul-Token: {}", if self.acl { MASTER } else { "" });
        curl(&["-X", "PUT", "-H", &token, "-d", body, &format!("{}{path}", self.base)])
    }

    fn register(&self, number: u8, weight: u16) {
        let body = format!(
            r#"{{"ID":"pg-{number}","Name":"pg","Address":"127.0.0.{number}","Port":5432,"Weights":{{"Passing":{weight},"Warning":1}},
               "Check":{{"CheckID":"c-{number}","Name":"disk","TTL":"600s","Status":"passing"}}}}"#
        );
        assert_eq!(self.put("/v1/agent/service/register", &body), "");
    }
}

#[test]
#[ignore = "needs consul"]
fn consul_tells_at_once_and_an_agent_in_trouble_takes_nobody_away() {
    let mut consul = Consul::start(false);
    for number in [11, 12, 13] {
        consul.register(number, 1);
    }
    let balancer = start(&format!("consul: {{ service: pg, agent: '{}' }}", consul.base));
    let is = |expected: &[&str]| found(&balancer) == expected;
    took("three are found", || is(&["pg-11", "pg-12", "pg-13"]));
    let limit = Duration::from_millis(400);
    consul.register(14, 1);
    assert!(took("one more", || is(&["pg-11", "pg-12", "pg-13", "pg-14"])) < limit);
    consul.put("/v1/agent/service/deregister/pg-14", "");
    assert!(took("deregistered", || is(&["pg-11", "pg-12", "pg-13"])) < limit);
    consul.put("/v1/agent/check/fail/c-13", "");
    assert!(took("critical", || is(&["pg-11", "pg-12", "pg-13 (disk (consul))"])) < limit);
    consul.put("/v1/agent/service/maintenance/pg-12?enable=true&reason=new%20disk", "");
    let both = ["pg-11", "pg-12 (maintenance: new disk (consul))", "pg-13 (disk (consul))"];
    assert!(took("in maintenance", || is(&both)) < limit);
    consul.put("/v1/agent/service/maintenance/pg-12?enable=false", "");
    consul.put("/v1/agent/check/pass/c-13", "");
    assert!(took("all serve", || is(&["pg-11", "pg-12", "pg-13"])) < limit);
    consul.register(11, 7);
    let weight = || balancer.pool()["backends"].as_array().unwrap().iter().any(|one| one["weight"] == 7);
    assert!(took("another weight", weight) < limit);

    consul.agent.signal("-STOP");
    stands(&balancer, "failing", "no answer within 5 s");
    assert!(is(&["pg-11", "pg-12", "pg-13"]));
    consul.agent.signal("-CONT");
    took("right again after it hung", || state(&balancer).0 == "ok");
    consul.agent.signal("-KILL");
    took("its death is told", || state(&balancer).0 == "failing");
    assert!(is(&["pg-11", "pg-12", "pg-13"]));
    consul.wipe();
    took("it knows nobody", || state(&balancer).0 == "nobody");
    assert!(is(&["pg-11", "pg-12", "pg-13"]));
    for number in [11, 12] {
        consul.register(number, 1);
    }
    took("right again after it was wiped", || is(&["pg-11", "pg-12"]) && state(&balancer).0 == "ok");
}

#[test]
#[ignore = "needs consul"]
fn consul_with_rules_says_what_a_token_lacks() {
    let consul = Consul::start(true);
    consul.register(11, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let put = |token: &str| {
        fs::write(&file, token).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    };
    put(MASTER);
    let from =
        format!("consul: {{ service: pg, agent: '{}', token_file: '{}' }}", consul.base, file.display());
    let balancer = start(&from);
    took("a good token", || found(&balancer) == ["pg-11"]);
    put("22222222-2222-2222-2222-222222222222");
    stands(&balancer, "failing", "HTTP 403: ACL not found");
    assert_eq!(found(&balancer), ["pg-11"]);
    put(MASTER);
    stands(&balancer, "ok", "");
    let shown = balancer.log() + &command(&balancer, &["status", "--json"]);
    assert!(!shown.contains(MASTER), "{shown}");
}

/// A cluster: etcd, kube-apiserver and the controller that writes slices; pods are objects whose status is written here.
struct Cluster {
    _etcd: Guard,
    apiserver: Guard,
    _controller: Option<Guard>,
    folder: tempfile::TempDir,
    ports: [u16; 3],
}

const ADMIN: &str = "admintoken";
const OURS: &str = "hunter2-of-the-balancer";

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = [(); 3].map(|()| free_port());
        let place = folder.path();
        let openssl = |words: &str| {
            let status =
                Command::new("openssl").args(words.split_whitespace()).current_dir(place).output().unwrap();
            assert!(status.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&status.stderr));
        };
        openssl("genrsa -out sa.key 2048");
        openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 9 -subj /CN=test-ca");
        openssl("req -newkey rsa:2048 -nodes -keyout srv.key -out srv.csr -subj /CN=kube-apiserver");
        fs::write(place.join("ext"), "subjectAltName=IP:127.0.0.1,IP:10.96.0.1").unwrap();
        openssl(
            "x509 -req -in srv.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -extfile ext -out srv.crt",
        );
        fs::write(
            place.join("tokens.csv"),
            format!("{ADMIN},admin,1,\"system:masters\"\n{OURS},evenkeel,2,\"\"\n"),
        )
        .unwrap();
        let etcd = {
            let urls = [format!("http://127.0.0.1:{}", ports[0]), format!("http://127.0.0.1:{}", ports[1])];
            let mut command = Command::new(program::find("etcd", "etcd-server"));
            command.current_dir(place).args(["--data-dir", "etcd"]);
            command.args(["--listen-client-urls", &urls[0], "--advertise-client-urls", &urls[0]]);
            command.args(["--listen-peer-urls", &urls[1], "--initial-advertise-peer-urls", &urls[1]]);
            command.args(["--initial-cluster", &format!("default={}", urls[1])]);
            Guard::spawn(command.stderr(fs::File::create(place.join("etcd.log")).unwrap()))
        };
        let apiserver = Self::apiserver(place, ports);
        let mut cluster = Self { _etcd: etcd, apiserver, _controller: None, folder, ports };
        cluster.is_ready();
        fs::write(place_of(&cluster.folder, "admin.kubeconfig"), cluster.kubeconfig(ADMIN)).unwrap();
        let mut command = Command::new(lab("bin/kube-controller-manager"));
        command.args([
            "--controllers=endpointslice,endpoint,serviceaccount",
            "--leader-elect=false",
            "--port=0",
        ]);
        command.args([
            "--secure-port=0",
            "--feature-gates=EndpointSliceTerminatingCondition=true",
            "--kubeconfig",
        ]);
        command.arg(place_of(&cluster.folder, "admin.kubeconfig"));
        let log = fs::File::create(place_of(&cluster.folder, "controller.log")).unwrap();
        cluster._controller = Some(Guard::spawn(command.stderr(log)));
        cluster
    }

    fn apiserver(place: &Path, ports: [u16; 3]) -> Guard {
        let mut command = Command::new(lab("bin/kube-apiserver"));
        command.current_dir(place).args([
            &format!("--etcd-servers=http://127.0.0.1:{}", ports[0]),
            &format!("--secure-port={}", ports[2]),
            "--bind-address=127.0.0.1",
            "--advertise-address=10.2.0.1",
            "--tls-cert-file=srv.crt",
            "--tls-private-key-file=srv.key",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--service-account-key-file=sa.key",
            "--service-account-signing-key-file=sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
            "--feature-gates=EndpointSliceTerminatingCondition=true",
            "--etcd-compaction-interval=0",
        ]);
        Guard::spawn(command.stderr(fs::File::create(place.join("api.log")).unwrap()))
    }

    fn is_ready(&self) {
        eventually("the API is ready", || self.ask("GET", "/readyz", "") == "ok");
    }

    fn kubeconfig(&self, token: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: \
             ca.crt}}}}]\nusers: [{{name: u, user: {{token: {token}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u, \
             namespace: db}}}}]\ncurrent-context: x\n",
            self.ports[2]
        )
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let kind = if method == "PATCH" { "strategic-merge-patch+json" } else { "json" };
        let mut words = vec!["-X".to_owned(), method.to_owned()];
        words.extend(["--cacert".to_owned(), place_of(&self.folder, "ca.crt").display().to_string()]);
        words.extend(["-H".to_owned(), format!("Authorization: Bearer {ADMIN}")]);
        words.extend(["-H".to_owned(), format!("Content-Type: application/{kind}")]);
        if !body.is_empty() {
            words.extend(["-d".to_owned(), body.to_owned()]);
        }
        words.push(format!("https://127.0.0.1:{}{path}", self.ports[2]));
        curl(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn made(&self, path: &str, body: &str) {
        let told = self.ask("POST", path, body);
        assert!(told.contains("\"metadata\"") && !told.contains("\"Failure\""), "{path}: {told}");
    }

    fn pod(&self, number: u8) {
        let body = format!(
            r#"{{"metadata":{{"name":"pg-{number}","labels":{{"app":"pg"}}}},"spec":{{"nodeName":"node-1","terminationGracePeriodSeconds":30,
               "containers":[{{"name":"c","image":"x","ports":[{{"name":"pgport","containerPort":5432}}]}}]}}}}"#
        );
        self.made("/api/v1/namespaces/db/pods", &body);
        self.is(number, true);
    }

    /// Its probe says so.
    fn is(&self, number: u8, ready: bool) {
        let ready = if ready { "True" } else { "False" };
        let body = format!(
            r#"{{"status":{{"phase":"Running","podIP":"10.1.0.1{number}","podIPs":[{{"ip":"10.1.0.1{number}"}}],
               "conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#
        );
        self.ask("PATCH", &format!("/api/v1/namespaces/db/pods/pg-{number}/status"), &body);
    }
}

fn place_of(folder: &tempfile::TempDir, file: &str) -> PathBuf {
    folder.path().join(file)
}

/// What we ship for Kubernetes, each document as JSON.
fn shipped() -> Vec<serde_json::Value> {
    let script = "import json, sys, yaml; print(json.dumps([one for one in yaml.safe_load_all(sys.stdin)]))";
    let file = fs::File::open("conf/kubernetes/evenkeel.yaml").unwrap();
    let output = Command::new("/usr/bin/python3").args(["-c", script]).stdin(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything that was sent is in what came back: a word that the API does not know is left out by it in silence.
fn holds(whole: &serde_json::Value, part: &serde_json::Value, place: &str) {
    match part {
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| holds(&whole[key], value, &format!("{place}.{key}")));
        }
        serde_json::Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, value)| holds(&whole[at], value, &format!("{place}[{at}]")));
        }
        value => assert_eq!(&whole, &value, "{place}"),
    }
}

#[test]
#[ignore = "needs kube-apiserver"]
fn the_api_takes_what_we_ship_and_the_account_may_do_what_it_needs_and_no_more() {
    let cluster = Cluster::start();
    cluster.made("/api/v1/namespaces", r#"{"metadata":{"name":"db"}}"#);
    let mut kinds = Vec::new();
    for document in shipped() {
        let kind = document["kind"].as_str().unwrap().to_lowercase();
        let version = document["apiVersion"].as_str().unwrap();
        let base = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let path = match document["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("{base}/namespaces/{namespace}/{kind}s"),
            None => format!("{base}/{kind}s"),
        };
        let told = cluster.ask("POST", &path, &document.to_string());
        let told: serde_json::Value =
            serde_json::from_str(&told).unwrap_or_else(|_| panic!("{kind}: {told}"));
        holds(&told, &document, &kind);
        kinds.push(kind);
    }
    assert_eq!(
        kinds,
        ["namespace", "serviceaccount", "role", "rolebinding", "configmap", "daemonset", "service"]
    );
    let may = |verb: &str, group: &str, resource: &str, namespace: &str| {
        let asked = format!(
            r#"{{"spec":{{"user":"system:serviceaccount:balancer:evenkeel","groups":["system:serviceaccounts"],"resourceAttributes":
               {{"verb":"{verb}","group":"{group}","resource":"{resource}","namespace":"{namespace}"}}}}}}"#
        );
        let told = cluster.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", &asked);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        told["status"]["allowed"].as_bool().unwrap_or_else(|| panic!("{told}"))
    };
    let slices = "endpointslices";
    eventually("the rules are known", || may("watch", "discovery.k8s.io", slices, "db"));
    assert!(may("list", "discovery.k8s.io", slices, "db"));
    for (verb, group, resource, namespace) in [
        ("get", "discovery.k8s.io", slices, "db"),
        ("delete", "discovery.k8s.io", slices, "db"),
        ("list", "discovery.k8s.io", slices, "balancer"),
        ("list", "", "pods", "db"),
        ("get", "", "secrets", "db"),
    ] {
        assert!(!may(verb, group, resource, namespace), "{verb} {resource} in {namespace}");
    }
}

#[test]
#[ignore = "needs kube-apiserver"]
fn kubernetes_tells_at_once_and_an_api_in_trouble_takes_nobody_away() {
    let mut cluster = Cluster::start();
    cluster.made("/api/v1/namespaces", r#"{"metadata":{"name":"db"}}"#);
    cluster.made("/api/v1/nodes", r#"{"metadata":{"name":"node-1"}}"#);
    let service = r#"{"metadata":{"name":"pg"},"spec":{"selector":{"app":"pg"},"ports":[{"name":"postgres","port":5432,"targetPort":"pgport"},
        {"name":"metrics","port":9187,"targetPort":9187}]}}"#;
    cluster.made("/api/v1/namespaces/db/services", service);
    (0..3).for_each(|number| cluster.pod(number));
    let file = place_of(&cluster.folder, "own.kubeconfig");
    // As most have it: the authority in the file itself.
    let ca = Command::new("base64").arg("-w0").arg(place_of(&cluster.folder, "ca.crt")).output().unwrap();
    let ca = format!("certificate-authority-data: {}", String::from_utf8(ca.stdout).unwrap());
    let config = cluster.kubeconfig("TOKEN").replace("certificate-authority: ca.crt", &ca);
    assert!(config.contains(&ca));
    let put = |token: &str| {
        fs::write(&file, config.replace("TOKEN", token)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    };
    put(OURS);
    let from = format!("kubernetes: {{ service: pg, port: postgres, kubeconfig: '{}' }}", file.display());
    let balancer = start(&from);
    stands(&balancer, "failing", "HTTP 403: endpointslices.discovery.k8s.io is forbidden");
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/db";
    let role = |verbs: &str| {
        format!(
            r#"{{"metadata":{{"name":"ek"}},"rules":[{{"apiGroups":["discovery.k8s.io"],"resources":["endpointslices"],"verbs":[{verbs}]}}]}}"#
        )
    };
    cluster.made(&format!("{rbac}/roles"), &role(r#""list""#));
    let binding = r#"{"metadata":{"name":"ek"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"ek"},
        "subjects":[{"kind":"User","name":"evenkeel"}]}"#;
    cluster.made(&format!("{rbac}/rolebindings"), binding);
    let is = |expected: &[&str]| found(&balancer) == expected;
    took("three are found", || is(&["pg-0", "pg-1", "pg-2"]));
    eventually("what it lacks is told", || state(&balancer).1.contains("its watch: HTTP 403"));
    cluster.ask("PUT", &format!("{rbac}/roles/ek"), &role(r#""list","watch""#));
    stands(&balancer, "ok", "");

    let limit = Duration::from_millis(1_500);
    cluster.is(1, false);
    // The controller itself takes most of a second.
    assert!(took("not ready", || is(&["pg-0", "pg-1 (not ready (kubernetes))", "pg-2"])) < limit);
    cluster.is(1, true);
    assert!(took("ready", || is(&["pg-0", "pg-1", "pg-2"])) < limit);
    cluster.ask("DELETE", "/api/v1/namespaces/db/pods/pg-0", "");
    assert!(took("terminating", || is(&["pg-0 (terminating (kubernetes))", "pg-1", "pg-2"])) < limit);
    cluster.ask("DELETE", "/api/v1/namespaces/db/pods/pg-0?gracePeriodSeconds=0", "");
    assert!(took("gone", || is(&["pg-1", "pg-2"])) < limit);
    cluster.pod(3);
    took("another", || is(&["pg-1", "pg-2", "pg-3"]));

    cluster.apiserver.signal("-KILL");
    took("its death is told", || state(&balancer).0 == "failing");
    assert!(is(&["pg-1", "pg-2", "pg-3"]));
    cluster.apiserver = Cluster::apiserver(cluster.folder.path(), cluster.ports);
    cluster.is_ready();
    took("right again after it died", || state(&balancer).0 == "ok");

    put("no-such-token");
    stands(&balancer, "failing", "HTTP 401");
    assert!(is(&["pg-1", "pg-2", "pg-3"]));
    put(OURS);
    stands(&balancer, "ok", "");

    let slices = "/apis/discovery.k8s.io/v1beta1/namespaces/db/endpointslices";
    let names = || {
        let list: serde_json::Value = serde_json::from_str(&cluster.ask("GET", slices, "")).unwrap();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = names();
    cluster.ask("DELETE", slices, "");
    took("another slice stands for the one that was deleted", || {
        let after = names();
        !after.is_empty() && after != before
    });
    took("the source has heard of it", || state(&balancer).0 == "ok" && is(&["pg-1", "pg-2", "pg-3"]));
    for number in 1..=3 {
        cluster.ask("DELETE", &format!("/api/v1/namespaces/db/pods/pg-{number}?gracePeriodSeconds=0"), "");
    }
    took("all pods are gone", || state(&balancer).0 == "nobody");
    assert!(!found(&balancer).is_empty());
    cluster.pod(4);
    took("a new one", || is(&["pg-4"]));
    assert!(balancer.said(&["backend left", "pg-3"]) > 0, "who left is told");
    let shown = balancer.log() + &command(&balancer, &["status", "--json"]);
    assert!(!shown.contains("hunter2") && !shown.contains("no-such-token"), "{shown}");
}

/// A Docker daemon in namespaces of its own.
struct Docker {
    daemon: Guard,
    folder: tempfile::TempDir,
}

impl Docker {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Self::daemon(folder.path());
        let docker = Self { daemon, folder };
        let tree = place_of(&docker.folder, "rootfs/bin");
        fs::create_dir_all(&tree).unwrap();
        fs::copy(program::find("busybox", "busybox-static").as_path(), tree.join("busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", tree.join("sh")).unwrap();
        let packed = place_of(&docker.folder, "image.tar");
        let tar = Command::new("tar")
            .arg("-C")
            .arg(tree.parent().unwrap())
            .arg("-cf")
            .arg(&packed)
            .arg(".")
            .status();
        assert!(tar.unwrap().success());
        docker.answers();
        docker.run(&["import", &packed.display().to_string(), "box"]);
        docker.run(&["network", "create", "--subnet", "10.77.0.0/24", "dbs"]);
        docker
    }

    fn daemon(place: &Path) -> Guard {
        let inside = format!(
            "umount -l /sys/fs/cgroup; mount -t tmpfs t /sys/fs/cgroup; umount -l /sys/fs/cgroup; mount -t cgroup2 c /sys/fs/cgroup; \
             mount -t tmpfs t /run; mkdir -p /run/docker; ip link set lo up; exec dockerd -H unix://{0}/docker.sock --data-root {0}/data \
             --exec-root {0}/exec -p {0}/docker.pid",
            place.display()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "-n", "--cgroup", "bash", "-c", &inside]);
        Guard::spawn(command.stderr(fs::File::create(place.join("docker.log")).unwrap()))
    }

    fn answers(&self) {
        let socket = place_of(&self.folder, "docker.sock").display().to_string();
        eventually("the daemon answers", || curl(&["--unix-socket", &socket, "http://d/_ping"]) == "OK");
    }

    /// What it said.
    fn run(&self, words: &[&str]) -> String {
        let host = format!("unix://{}", place_of(&self.folder, "docker.sock").display());
        let output = Command::new("docker").env("DOCKER_HOST", host).args(words).output().unwrap();
        assert!(output.status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn container(&self, name: &str, more: &[&str]) {
        let mut words = vec!["run", "-d", "--name", name, "--network", "dbs", "--label", "evenkeel.pool=pg"];
        words.extend(more);
        // It takes two seconds to obey.
        words.extend([
            "box",
            "/bin/sh",
            "-c",
            "trap '/bin/busybox sleep 2; exit' TERM; while :; do /bin/busybox sleep .1; done",
        ]);
        self.run(&words);
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // The daemon ends its containers, where it is asked to.
        self.daemon.signal("-TERM");
        let began = Instant::now();
        while self.daemon.0.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let layers = place_of(&self.folder, "data");
        let _ = Command::new("rm").arg("-rf").arg(layers).status();
    }
}

#[test]
#[ignore = "needs docker"]
fn docker_runs_our_image_and_asks_for_its_health() {
    let docker = Docker::start();
    let at = |name: &str| place_of(&docker.folder, name).display().to_string();
    let image = Command::new("scripts/image")
        .args([
            "--binary",
            env!("CARGO_BIN_EXE_evenkeel"),
            "--tag",
            "evenkeel:test",
            "--output",
            &at("evenkeel.tar"),
        ])
        .output()
        .unwrap();
    assert!(image.status.success(), "{}", String::from_utf8_lossy(&image.stderr));
    assert!(docker.run(&["load", "-i", &at("evenkeel.tar")]).contains("evenkeel:test"));
    fs::create_dir(at("etc")).unwrap();
    let file = "listeners: { low: { bind: 53, backends: ['127.0.0.1:9'], health: { check: off } } }";
    fs::write(at("etc/evenkeel.yaml"), file).unwrap();
    // As conf/containers/compose.yaml has it.
    let mut words = vec!["run", "-d", "--name", "ek", "--read-only", "--cap-drop", "ALL"];
    words.extend([
        "--security-opt",
        "no-new-privileges",
        "--tmpfs",
        "/run/evenkeel:mode=0755,uid=65532,gid=65532",
    ]);
    let folder = format!("{}:/etc/evenkeel:ro", at("etc"));
    words.extend(["-v", &folder, "-v", "state:/var/lib/evenkeel", "evenkeel:test"]);
    docker.run(&words);
    let health = || docker.run(&["inspect", "-f", "{{.State.Health.Status}}", "ek"]);
    eventually("it is healthy", || health() == "healthy");
    assert!(docker.run(&["exec", "ek", "evenkeel", "upgrade"]).contains("has taken over"));
    docker.run(&["exec", "ek", "evenkeel", "withdraw"]);
    eventually("whoever is withdrawn is not", || health() == "unhealthy");
    docker.run(&["stop", "ek"]);
    assert_eq!(docker.run(&["inspect", "-f", "{{.State.ExitCode}}", "ek"]), "0");
    // The volume has kept it.
    docker.run(&["start", "ek"]);
    eventually("it is withdrawn still", || {
        docker.run(&["exec", "ek", "evenkeel", "status"]).contains("Withdrawn by evenkeel")
    });
}

#[test]
#[ignore = "needs docker"]
fn docker_tells_at_once_and_a_daemon_in_trouble_takes_nobody_away() {
    let mut docker = Docker::start();
    docker.container("pg1", &["--label", "evenkeel.port=5432"]);
    docker.container("pg2", &["--label", "evenkeel.port=5432", "--label", "evenkeel.weight=3"]);
    let socket = place_of(&docker.folder, "docker.sock");
    let balancer = start(&format!("docker: {{ label: 'evenkeel.pool=pg', socket: '{}' }}", socket.display()));
    let is = |expected: &[&str]| found(&balancer) == expected;
    took("two are found", || is(&["pg1", "pg2"]));
    let pool = balancer.pool();
    let two = pool["backends"].as_array().unwrap().iter().find(|one| one["name"] == "pg2").unwrap().clone();
    assert_eq!((two["weight"].as_u64(), two["address"].as_str()), (Some(3), Some("10.77.0.3:5432")));
    let health =
        ["--health-cmd", "/bin/busybox test -f /ok", "--health-interval", "300ms", "--health-retries", "1"];
    docker.container("pg3", &[&["--label", "evenkeel.port=5432"], &health[..]].concat());
    took("another is unhealthy", || is(&["pg1", "pg2", "pg3 (unhealthy (docker))"]));
    docker.run(&["exec", "pg3", "/bin/busybox", "touch", "/ok"]);
    took("and gets well", || is(&["pg1", "pg2", "pg3"]));
    // A list that lags behind its event is asked for again after a second.
    let limit = Duration::from_secs(3);
    docker.run(&["pause", "pg1"]);
    assert!(took("paused", || is(&["pg1 (paused (docker))", "pg2", "pg3"])) < limit);
    docker.run(&["unpause", "pg1"]);
    assert!(took("goes on", || is(&["pg1", "pg2", "pg3"])) < limit);
    std::thread::scope(|scope| {
        scope.spawn(|| docker.run(&["stop", "pg2"]));
        took("being stopped", || is(&["pg1", "pg2 (being stopped (docker))", "pg3"]));
        took("stopped", || is(&["pg1", "pg3"]));
    });
    docker.run(&["start", "pg2"]);
    assert!(took("started", || is(&["pg1", "pg2", "pg3"])) < limit);
    docker.run(&["network", "create", "--subnet", "10.78.0.0/24", "web"]);
    docker.run(&["network", "connect", "web", "pg1"]);
    stands(&balancer, "failing", "container pg1 is in several networks (dbs, web); say which with `network`");
    assert!(is(&["pg1", "pg2", "pg3"]));
    docker.run(&["network", "disconnect", "web", "pg1"]);
    stands(&balancer, "ok", "");
    docker.daemon.signal("-TERM");
    took("the daemon's end is told", || state(&balancer).0 == "failing");
    assert!(is(&["pg1", "pg2", "pg3"]));
    eventually("it ends", || docker.daemon.0.try_wait().unwrap().is_some());
    docker.daemon = Docker::daemon(docker.folder.path());
    docker.answers();
    // Its containers ended with it.
    took("nobody runs", || state(&balancer).0 == "nobody");
    docker.run(&["start", "pg1", "pg2"]);
    took("right again", || is(&["pg1", "pg2"]));
}
