//! Backends from a file: every way in which files are changed serves, and nothing that a file can be takes anybody away.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::rig::*;

/// A balancer whose backends stand in a file of a folder of its own.
struct Scene {
    folder: TempDir,
    balancer: Balancer,
}

impl Scene {
    fn start(file: &str, keys: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let yaml = format!(
            "workers: 2\nlisteners: {{ door: {{ bind: '127.0.0.1:0', {keys} backends: [{{ from: {{ file: '{}' }} }}] }} }}",
            path.display()
        );
        Self {
            folder,
            balancer: Balancer::start(&yaml.replace(":0'", &format!(":{}'", crate::ports::free_port()))),
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The last numbers of the backends' addresses.
    fn found(&self) -> Vec<u16> {
        let snapshot = self.balancer.server().snapshots().load();
        let mut all: Vec<u16> = snapshot.pools[0]
            .backends
            .iter()
            .map(|backend| backend.name.rsplit(':').next().unwrap().parse().unwrap())
            .collect();
        all.sort_unstable();
        all
    }

    fn state(&self) -> (&'static str, String) {
        let row = self.balancer.server().discovery().pool("door").unwrap();
        (row.sources[0].state, row.sources[0].why.clone().unwrap_or_default())
    }
}

/// A list of a backend that nobody is at.
fn list(port: u16) -> String {
    format!("- 127.0.0.1:{port}\n- 127.0.0.1:1\n")
}

/// Through a file beside it and a rename, as most tools do it.
fn rename_over(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn every_way_of_changing_a_file_serves_in_two_and_a_half_seconds() {
    let scene = Scene::start("volume/list", "", &list(2));
    let path = scene.path("volume/list");
    assert_eq!(scene.found(), [1, 2], "found before the door opens");
    let mut number = 2;
    let mut changes = |what: &str, change: &dyn Fn(&str, u16)| {
        number += 1;
        let began = Instant::now();
        change(&list(number), number);
        becomes(what, vec![1, number], || scene.found());
        assert!(began.elapsed() < Duration::from_millis(2_500), "{what}: {:?}", began.elapsed());
    };
    changes("written in place", &|text, _| fs::write(&path, text).unwrap());
    changes("written in two parts", &|text, _| {
        let mut file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        let (one, other) = text.split_at(7);
        file.write_all(one.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        file.write_all(other.as_bytes()).unwrap();
    });
    changes("renamed over", &|text, _| rename_over(&path, text));
    changes("renamed over once more", &|text, _| rename_over(&path, text));
    changes("sed -i", &|_, number| {
        let command = format!("s/127.0.0.1:{}$/127.0.0.1:{number}/", number - 1);
        assert!(Command::new("sed").args(["-i", &command]).arg(&path).status().unwrap().success());
    });
    changes("removed and written anew", &|text, _| {
        fs::remove_file(&path).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        fs::write(&path, text).unwrap();
    });
    changes("another hard link", &|text, _| {
        let other = scene.path("other");
        fs::write(&other, text).unwrap();
        assert!(Command::new("ln").arg("-f").arg(&other).arg(&path).status().unwrap().success());
    });
    changes("a folder that is replaced", &|text, number| {
        let next = scene.path("next");
        fs::create_dir(&next).unwrap();
        fs::write(next.join("list"), text).unwrap();
        fs::rename(scene.path("volume"), scene.path(&format!("volume.{number}"))).unwrap();
        fs::rename(next, scene.path("volume")).unwrap();
    });
    changes("a volume whose link turns", &|text, number| {
        let inner = scene.path(&format!("volume/..{number}"));
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("list"), text).unwrap();
        let volume = scene.path("volume");
        symlink(format!("..{number}"), volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        if fs::symlink_metadata(&path).unwrap().is_file() {
            fs::remove_file(&path).unwrap();
            symlink("..data/list", &path).unwrap();
        }
    });
    changes("and turns again", &|text, number| {
        let inner = scene.path(&format!("volume/..{number}"));
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("list"), text).unwrap();
        let volume = scene.path("volume");
        symlink(format!("..{number}"), volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    });
    becomes("state", "ok", || scene.state().0);
}

#[test]
fn whatever_a_file_is_that_is_no_list_changes_nothing_and_is_told_with_its_place() {
    let scene = Scene::start("list", "", &list(2));
    let path = scene.path("list");
    let good = list(2);
    let generation = || scene.balancer.server().snapshots().load().generation;
    let before = generation();
    let shown = path.display().to_string();
    let becomes_bad = |what: &str, expected: &str, make: &dyn Fn()| {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        make();
        eventually(what, || {
            let (state, why) = scene.state();
            state == "failing" && why.contains(expected)
        });
        assert_eq!((scene.found(), generation()), (vec![1, 2], before), "{what}: {:?}", scene.state());
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        rename_over(&path, &good);
        becomes(what, "ok", || scene.state().0);
    };
    let text = |text: &'static [u8]| {
        let path = path.clone();
        move || fs::write(&path, text).unwrap()
    };
    let at = |place: &str| format!("{shown}{place}");
    becomes_bad("half a file", &at(":2:3: `127` is not an IP address"), &text(b"- 127.0.0.1:2\n- 127"));
    becomes_bad("empty", &at(": the list is empty"), &text(b""));
    becomes_bad("binary", &at(":1:2: byte 0xff is not UTF-8"), &text(b"-\xff\xfe\0\x01"));
    becomes_bad("a typo", &at(":1:5: unknown key `adress`"), &text(b"- { adress: 127.0.0.1:2 }"));
    becomes_bad("a host name", &at(":1:3: `db.test` is a host name"), &text(b"- db.test:5432"));
    becomes_bad("1 GiB", &at(": it is longer than 8 MiB"), &|| {
        File::create(&path).unwrap().set_len(1 << 30).unwrap();
    });
    becomes_bad("a folder", &at(": it is no file but a folder"), &|| fs::create_dir(&path).unwrap());
    becomes_bad("a pipe", &at(": it is no file but a pipe"), &|| {
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    });
    becomes_bad("a device", &at(": it is no file but a pipe, socket or device"), &|| {
        symlink("/dev/zero", &path).unwrap();
    });
    becomes_bad("a link to itself", &at(": Too many levels of symbolic links"), &|| {
        symlink(&path, &path).unwrap();
    });
    becomes_bad("not there", &at(": No such file or directory"), &|| ());
    becomes_bad("others may write", &at(": others may write to it (mode 0666)"), &|| {
        fs::write(&path, &good).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    });
    if rustix::process::geteuid().is_root() {
        becomes_bad("somebody else's", &at(": it belongs to user 12345"), &|| {
            fs::write(&path, &good).unwrap();
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        });
    } else {
        becomes_bad("no permission", &at(": Permission denied"), &|| {
            fs::write(&path, &good).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        });
    }
    assert_eq!((scene.found(), generation()), (vec![1, 2], before));
    fs::write(&path, "[]").unwrap();
    eventually("nobody", || scene.state() == ("nobody", "it names nobody".to_owned()));
    assert_eq!((scene.found(), generation()), (vec![1, 2], before), "those found before stay");
}

#[test]
fn an_answer_that_takes_away_much_is_believed_when_it_is_meant() {
    let all = |ports: std::ops::RangeInclusive<u16>| {
        ports.map(|port| format!("127.0.0.1:{port}\n")).collect::<String>()
    };
    let scene = Scene::start("list", "", &all(1..=10));
    let path = scene.path("list");
    assert_eq!(scene.found().len(), 10);
    rename_over(&path, &all(1..=2));
    becomes("state", "held", || scene.state().0);
    assert_eq!(scene.state().1, "the answer lacks 8 of 10; asked again");
    rename_over(&path, &all(1..=10));
    becomes("state", "ok", || scene.state().0);
    assert_eq!(scene.found().len(), 10, "it was a slip");
    let began = Instant::now();
    rename_over(&path, &all(1..=2));
    becomes("backends", 2, || scene.found().len());
    assert!(
        began.elapsed() >= Duration::from_secs(5) && began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let changes = scene.balancer.server().discovery().pool("door").unwrap().changes;
    assert_eq!((changes.held, changes.left), (2, 8));
}

#[test]
fn a_weight_of_nothing_drains_and_what_a_list_says_of_a_backend_is_taken() {
    let (one, other) = (Backend::start(answer_with("one")), Backend::start(answer_with("other")));
    let text = |weight: u16| {
        format!(
            "[{{ address: '{}', name: one, weight: {weight} }}, {{ address: '{}', name: other }}]",
            one.address, other.address
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.json");
    fs::write(&path, text(1)).unwrap();
    let file = |keys: &str| {
        format!(
            "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: [{{ from: {{ file: {{ path: '{}', every: 100ms }} }}{keys} }}] }} }}",
            path.display()
        )
    };
    let program = Program::start(&file(""));
    assert_eq!(names_reached(program.address(), 10).len(), 2);
    rename_over(&path, &text(0));
    eventually("it drains", || program.status()["pools"][0]["backends"][0]["state"] == "drain");
    assert_eq!(names_reached(program.address(), 10)["other"], 10);
    let shown = program.say(&["sources"]);
    let source = format!("file {}", path.display());
    assert!(shown.contains(&source) && shown.contains("\n  one at 127.0.0.1:"), "{shown}");
    // What was found goes on while the file is not there, also in the next process.
    fs::remove_file(&path).unwrap();
    eventually("it fails", || program.status()["pools"][0]["sources"][0]["state"] == "failing");
    assert_eq!(program.upgrade(), 0);
    let status = program.status();
    assert_eq!(status["pools"][0]["backends"][0]["weight"], 0, "{status}");
    assert_eq!(status["pools"][0]["backends"][1]["name"], "other", "{status}");
    assert_eq!(names_reached(program.address(), 10)["other"], 10);
}

#[test]
fn what_was_found_serves_after_a_crash_while_no_source_answers() {
    let state = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Backend::start(answer_with("one")), Backend::start(answer_with("other")));
    let list = folder.path().join("list");
    fs::write(&list, format!("- {{ address: '{}', name: one }}\n", one.address)).unwrap();
    let names = crate::names::Names::start();
    names.has("db.test", &["127.0.0.1"]);
    let yaml = |keys: &str| {
        format!(
            "dns: {{ servers: '{}', hosts: off, search: [], timeout: 300ms }}\n\
             listeners: {{ door: {{ bind: '127.0.0.1:PORT', {keys} health: {{ check: off }}, \
             backends: [{{ from: {{ file: '{}' }} }}, 'db.test:{}'] }} }}",
            names.address,
            list.display(),
            other.address.port()
        )
    };
    let script = format!("STATE_DIRECTORY={} exec \"$@\"", state.path().display());
    let kept = state.path().join("found.json");
    let program = Program::start_under(&script, &yaml(""));
    assert_eq!(names_reached(program.address(), 10).len(), 2);
    let is_kept =
        || fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"one\"") && text.contains("127.0.0.1"));
    eventually("it is kept", is_kept);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    program.signal(rustix::process::Signal::KILL);
    drop(program);
    fs::remove_file(&list).unwrap();
    names.set("db.test", crate::names::Says::Silence);

    let program = Program::start_under(&script, &yaml(""));
    assert_eq!(names_reached(program.address(), 10).len(), 2, "{}", program.say(&["sources"]));
    eventually("both fail", || {
        let status = program.status();
        let sources = status["pools"][0]["sources"].as_array().unwrap().clone();
        sources.iter().all(|source| source["state"] == "failing" && source["found"] == 1)
    });
    assert!(is_kept(), "what nobody says any more is kept all the same");
    program.signal(rustix::process::Signal::KILL);
    drop(program);

    let program = Program::start_under(&script, &yaml("discovery: { remember: off },"));
    assert_eq!(program.status()["pools"][0]["sources"][0]["found"], 0);
    eventually("it is not kept", || !fs::read_to_string(&kept).unwrap().contains("\"one\""));
}

#[test]
fn a_list_that_becomes_a_source_by_a_reload_refuses_nobody_in_between() {
    let backend = Backend::start(answer_with("here"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    fs::write(&path, format!("{}\n", backend.address)).unwrap();
    let names = crate::names::Names::start();
    names.has("db.test", &["127.0.0.1"]);
    let door = crate::ports::free_port();
    let yaml = |backends: &str| {
        format!(
            "dns: {{ servers: '{}', hosts: off, search: [], timeout: 300ms }}\nlisteners: {{ door: {{ bind: '127.0.0.1:{door}', \
             health: {{ check: off }}, backends: [{backends}] }} }}",
            names.address
        )
    };
    let list = yaml(&format!("'{}'", backend.address));
    let balancer = Balancer::start(&list);
    let to = balancer.address();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let sessions = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(short_session(to).expect("nobody is refused"), "here");
                sessions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        let mut rounds = 0;
        // On a busy machine few come in one round.
        while !clients.is_finished()
            && (rounds < 5 || sessions.load(std::sync::atomic::Ordering::Relaxed) < 20)
        {
            for source in [
                format!("{{ from: {{ file: '{}' }} }}", path.display()),
                format!("'db.test:{}'", backend.address.port()),
            ] {
                balancer.reload(&yaml(&source)).unwrap();
                balancer.reload(&list).unwrap();
            }
            rounds += 1;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        clients.join().unwrap();
    });
    // One that nobody hears of holds up a reload for two seconds, and no longer.
    let began = Instant::now();
    balancer.reload(&yaml("{ from: { file: /nowhere/at/all } }, { from: { file: /nor/here } }")).unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "that there is none is an answer: {:?}",
        began.elapsed()
    );
    names.set("db.test", crate::names::Says::Silence);
    let began = Instant::now();
    balancer.reload(&yaml(&format!("'db.test:{}'", backend.address.port()))).unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
