//! `evenkeel top` on a real terminal: tmux types the keys and tells what is on the screen. Left out where tmux is not
//! installed; scripts/test installs it.
#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, clippy::print_stderr)]

mod ports;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ports::free_port;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_evenkeel");
const DEADLINE: Duration = Duration::from_secs(30);

#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}; last:\n{seen}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A balancer with two good backends and a dead one behind a tcp and a udp listener.
struct Balancer {
    child: Child,
    folder: TempDir,
    tcp: SocketAddr,
    udp: SocketAddr,
}

impl Balancer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = serve();
        let [dead, tcp, udp] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let file = format!(
            "admin: {{ socket: {} }}\nlog: {{ sessions: off }}\nlisteners:\n  door: {{ bind: '{tcp}', pool: web }}\n  \
             games: {{ bind: '{udp}', protocol: udp, pool: games }}\npools:\n  \
             web:\n    \
             health: {{ interval: 100ms, timeout: 1s }}\n    passive: off\n    \
             backends: [{{ address: '{backend}', name: alpha }}, {{ address: '{backend}', name: beta }}, {{ address: '{dead}', name: dead }}]\n  \
             games: {{ backends: [{{ address: '{backend}', name: arena }}] }}\n",
            folder.path().join("admin.sock").display(),
        );
        std::fs::write(folder.path().join("evenkeel.yaml"), file).unwrap();
        let child = Self::spawn(&folder);
        let balancer = Self { child, folder, tcp, udp };
        eventually("the balancer answers", || balancer.state("alpha"));
        balancer
    }

    fn spawn(folder: &TempDir) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let file = folder.path().join("evenkeel.yaml");
        Command::new(BINARY).args(["run", "--config"]).arg(file).stderr(log).spawn().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(&self.folder);
        eventually("the balancer answers again", || self.state("alpha"));
    }

    /// The state of a backend of `web`.
    fn state(&self, name: &str) -> Result<String, String> {
        let output =
            Command::new(BINARY).args(["status", "--json", "--socket"]).arg(self.socket()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status: serde_json::Value = serde_json::from_str(&text).map_err(|_| text)?;
        let pools = status["pools"].as_array().ok_or("no pools")?;
        let found = pools.iter().flat_map(|pool| pool["backends"].as_array().unwrap());
        let mut found = found.filter(|backend| backend["name"] == name);
        found.next().map(|backend| backend["state"].as_str().unwrap().to_owned()).ok_or("no such".to_owned())
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answers what it is sent, over TCP and UDP at one port.
fn serve() -> SocketAddr {
    let (listener, socket) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
            break (listener, socket);
        }
    };
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut copy = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut &stream, &mut copy);
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    address
}

/// A terminal with a shell in it.
struct Screen {
    socket: PathBuf,
    _folder: TempDir,
}

impl Screen {
    fn open(width: u16, height: u16, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let screen = Self { socket: folder.path().join("tmux"), _folder: folder };
        let (width, height) = (width.to_string(), height.to_string());
        let mut args = vec!["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height];
        let pairs: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        args.extend(["env", "-u", "NO_COLOR", "PS1=shell$ "]);
        args.extend(pairs.iter().map(String::as_str));
        args.extend(["sh", "-i"]);
        let output = screen.tmux(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        screen.shows("shell$");
        screen
    }

    fn tmux(&self, args: &[&str]) -> Output {
        Command::new("tmux").arg("-S").arg(&self.socket).args(args).env("LC_ALL", "C.UTF-8").output().unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    /// With the codes of its colours.
    fn coloured(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p", "-e"]).stdout).into_owned()
    }

    #[track_caller]
    fn shows(&self, part: &str) -> String {
        self.fits(part, |text| text.contains(part))
    }

    #[track_caller]
    fn fits(&self, what: &str, is_right: impl Fn(&str) -> bool) -> String {
        eventually(what, || {
            let text = self.text();
            if is_right(&text) { Ok(text) } else { Err(text) }
        })
    }

    fn press(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend(keys);
        assert!(self.tmux(&args).status.success());
    }

    fn run(&self, command: &str) {
        assert!(self.tmux(&["send-keys", "-l", command]).status.success());
        self.press(&["Enter"]);
    }

    fn resize(&self, width: u16, height: u16) {
        let (width, height) = (width.to_string(), height.to_string());
        assert!(self.tmux(&["resize-window", "-x", &width, "-y", &height]).status.success());
    }

    /// What the program left behind: no screen of its own, a cursor, a terminal in its usual state, this exit code.
    #[track_caller]
    fn is_clean(&self, code: i32) {
        self.fits("the shell is back", |text| text.trim_end().ends_with("shell$"));
        let modes = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"]);
        assert_eq!(String::from_utf8_lossy(&modes.stdout).trim(), "0 1 0");
        // Typed by the operator and seen: echo is on. The two words come from stty alone.
        self.run("echo code=$?; stty -a | tr ' ' '\\n' | grep -xE -- '-?(icanon|echo);?' | tr '\\n' ' '");
        self.shows(&format!("code={code}\n"));
        let text = self.fits("stty tells", |text| text.lines().any(|line| line.starts_with("icanon echo")));
        assert!(!text.contains("-icanon ") && !text.contains("-echo "), "{text}");
    }

    fn top(&self, balancer: &Balancer, more: &str) {
        self.run(&format!("{BINARY} top --socket {} --interval 200ms {more}", balancer.socket().display()));
    }

    /// The process id of `top`.
    fn program(&self) -> Pid {
        let shell = String::from_utf8_lossy(&self.tmux(&["display-message", "-p", "#{pane_pid}"]).stdout)
            .trim()
            .to_owned();
        eventually("top runs", || {
            let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
            let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
            child.and_then(Pid::from_raw).ok_or(children)
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen ---\n{}", self.text());
        }
        let _ = self.tmux(&["kill-server"]);
    }
}

/// One connection that says something, and stays.
fn session(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    stream
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find(|line| line[..line.len().min(20)].contains(name)).unwrap_or("")
}

#[test]
#[ignore = "needs tmux"]
fn it_shows_states_sessions_and_rates_of_tcp_and_udp_live() {
    let balancer = Balancer::start();
    let screen = Screen::open(80, 24, &[]);
    screen.top(&balancer, "");
    screen.shows("> alpha");
    screen.shows("connection refused");
    let text = screen.fits("the dead one is down", |text| line(text, "dead").contains("down"));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let held = [session(balancer.tcp), session(balancer.tcp), session(balancer.tcp)];
    screen.shows("active 3");
    let player = UdpSocket::bind("127.0.0.1:0").unwrap();
    player.connect(balancer.udp).unwrap();
    player.set_read_timeout(Some(DEADLINE)).unwrap();
    // Datagrams go until their bytes are seen: a rate is only there while something moves.
    eventually("a rate of the udp pool", || {
        player.send(&[b'x'; 1_000]).unwrap();
        player.recv(&mut [0; 1_000]).unwrap();
        let text = screen.text();
        let arena = line(&text, "arena");
        if arena.contains(" kB") && arena.contains(" 1 ") { Ok(()) } else { Err(text) }
    });
    eventually("new sessions in a second", || {
        drop(session(balancer.tcp));
        let text = screen.text();
        let rate = text.lines().find_map(|line| line.strip_prefix("active ")?.split("new/s ").nth(1));
        let rate = rate.and_then(|rate| rate.split_whitespace().next()?.parse::<f64>().ok());
        if rate.is_some_and(|rate| rate > 0.0) { Ok(()) } else { Err(text) }
    });
    screen.fits("a curve", |text| text.contains('\u{2588}'));
    drop(held);
    screen.press(&["q"]);
    screen.is_clean(0);
}

#[test]
#[ignore = "needs tmux"]
fn keys_select_sort_filter_and_drain_only_after_a_yes() {
    let balancer = Balancer::start();
    let screen = Screen::open(80, 24, &[]);
    screen.top(&balancer, "");
    screen.shows("> alpha");
    screen.press(&["Down"]);
    screen.shows("> beta");
    screen.press(&["d"]);
    screen.shows("drain web/beta?");
    screen.press(&["n"]);
    screen.shows("q quit");
    assert_eq!(balancer.state("beta").unwrap(), "up");
    screen.press(&["d"]);
    screen.shows("drain web/beta?");
    screen.press(&["y"]);
    screen.shows("web/beta is drained");
    screen.fits("its state", |text| line(text, "beta").contains("drain"));
    screen.shows("by ");
    assert_eq!(balancer.state("beta").unwrap(), "drain");
    screen.press(&["r"]);
    screen.fits("it is up again", |text| line(text, "> beta").contains(" up "));
    assert_eq!(balancer.state("beta").unwrap(), "up");
    screen.press(&["s", "s"]);
    screen.shows("STATE*");
    screen.fits("trouble first", |text| text.find("dead") < text.find("alpha"));
    screen.press(&["/"]);
    screen.press(&["a", "r", "e", "n", "Enter"]);
    screen.fits("only what fits", |text| text.contains("> arena") && !text.contains("alpha"));
    screen.press(&["/", "Escape"]);
    screen.shows("alpha");
    screen.press(&["?"]);
    screen.shows("takes drain and down back");
    screen.press(&["x"]);
    screen.fits("no help", |text| !text.contains("takes drain"));
    screen.press(&["Escape"]);
    screen.is_clean(0);
}

#[test]
#[ignore = "needs tmux"]
fn it_follows_the_size_of_the_screen() {
    let balancer = Balancer::start();
    let screen = Screen::open(80, 24, &[]);
    screen.top(&balancer, "");
    screen.shows("> alpha");
    for (width, height) in [(40, 10), (160, 50), (10, 4), (1, 1), (80, 24), (40, 10)] {
        screen.resize(width, height);
        if width >= 40 {
            screen.shows("> alpha");
            screen.shows("sessions");
        }
    }
    screen.resize(130, 30);
    screen.fits("a column for the cause", |text| line(text, "dead").contains("connection refused"));
    screen.press(&["C-c"]);
    screen.is_clean(0);
}

#[test]
#[ignore = "needs tmux"]
fn a_balancer_that_goes_away_is_told_and_found_again() {
    let mut balancer = Balancer::start();
    let screen = Screen::open(80, 24, &[]);
    screen.top(&balancer, "");
    screen.shows("> alpha");
    balancer.stop();
    screen.shows("no answer for");
    screen.shows("> alpha");
    screen.press(&["d"]);
    screen.shows("drain web/alpha?");
    screen.press(&["y"]);
    screen.shows("is not marked drain");
    balancer.start_again();
    screen.fits("found again", |text| !text.contains("no answer for") && text.contains("> alpha"));
    assert_ne!(balancer.state("alpha").unwrap(), "drain");
    screen.press(&["q"]);
    screen.is_clean(0);
}

#[test]
#[ignore = "needs tmux"]
fn signals_end_it_and_leave_the_terminal_clean() {
    let balancer = Balancer::start();
    let screen = Screen::open(80, 24, &[]);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        screen.top(&balancer, "");
        screen.shows("> alpha");
        kill_process(screen.program(), signal).unwrap();
        screen.is_clean(0);
        screen.run("clear");
        screen.fits("a clean screen", |text| text.trim() == "shell$");
    }
}

#[test]
#[ignore = "needs tmux"]
fn colours_are_there_unless_no_color_says_no() {
    let balancer = Balancer::start();
    for (environment, has_colours) in [(&[][..], true), (&[("NO_COLOR", "1")][..], false)] {
        let screen = Screen::open(80, 24, environment);
        screen.top(&balancer, "");
        screen.fits("the dead one is down", |text| line(text, "dead").contains("down"));
        let is_colour = |code: &str| {
            let numbers = code.split('m').next().unwrap_or("");
            numbers.split(';').any(|number| matches!(number.parse(), Ok(31..=38 | 90..=97)))
        };
        let coloured = screen.coloured();
        assert_eq!(coloured.split("\x1b[").skip(1).any(is_colour), has_colours, "{coloured:?}");
        screen.press(&["q"]);
        screen.is_clean(0);
    }
}

#[test]
fn where_it_cannot_be_shown_it_says_what_else_there_is() {
    let output = Command::new(BINARY).arg("top").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("needs a terminal") && said.contains("evenkeel status --json"), "{said}");
    let output = Command::new(BINARY).args(["top", "--interval", "1ms"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("between 100ms and 1m"));
}

#[test]
#[ignore = "needs tmux"]
fn without_a_balancer_it_says_where_it_looked() {
    let screen = Screen::open(80, 24, &[]);
    screen.run(&format!("{BINARY} top --socket /nonexistent/admin.sock"));
    screen.shows("no balancer answers at");
    screen.is_clean(69);
}
