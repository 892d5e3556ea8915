//! The line between builds of different times: what is passed over, and what is refused.

use std::os::fd::AsFd;

use super::*;
use crate::manifest::{Head, VERSION};

/// A line, and its other end as a bare socket.
fn line() -> (Channel, OwnedFd) {
    Channel::pair().unwrap()
}

fn say(to: &OwnedFd, words: &str) {
    fd_passing::send(to.as_fd(), words.as_bytes(), &[]).unwrap();
}

fn manifest() -> Manifest {
    Manifest::new(Head {
        program: "0".into(),
        config: "text".into(),
        config_path: "/path".into(),
        epoch_ns: 1,
        workers: 1,
        http: None,
        socket: None,
        reloads: (0, 0),
        ready: None,
        withdrawn: None,
        base: None,
        run_time: None,
    })
}

/// What a process says of itself that was asked whether it is ready.
async fn answer_to(words: &str) -> Result<(), String> {
    let (line, theirs) = line();
    say(&theirs, words);
    line.await_ready().await.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn builds_before_and_after_are_ready_or_refused_by_what_they_read() {
    assert_eq!(answer_to(&format!("ready {VERSION} {VERSION}")).await, Ok(()));
    assert_eq!(answer_to("ready 99 3").await, Ok(()), "a later build that still reads this");
    assert_eq!(answer_to("ready 99 3 with words of its own").await, Ok(()));
    // As builds say it of which the manifest could not grow.
    let refused = answer_to("ready 2").await.unwrap_err();
    assert!(refused.contains("too old: it reads handovers of format 2"), "{refused}");
    let refused = answer_to("ready 99 98").await.unwrap_err();
    assert!(refused.contains("too new: it reads handovers from format 98 on"), "{refused}");
    assert_eq!(answer_to("ready or not").await, Err(ChannelError::Confused.to_string()));
    assert_eq!(answer_to("refused because").await, Err(ChannelError::Refused("because".into()).to_string()));
}

#[tokio::test]
async fn what_a_later_build_says_in_between_is_passed_over() {
    let (line, theirs) = line();
    say(&theirs, "hello there");
    say(&theirs, "\u{e9}t\u{e9}");
    say(&theirs, &format!("ready {VERSION} {VERSION}"));
    line.await_ready().await.unwrap();
    for words in ["progress 50", "have 0+0 and more"] {
        say(&theirs, words);
    }
    line.send_bundle(&manifest()).await.unwrap();
    say(&theirs, "go now");
    line.await_go("0+0").await.unwrap();
    // One that never comes to the point is refused.
    for _ in 0..=PASSED_OVER_MAX {
        say(&theirs, "hello");
    }
    assert!(matches!(line.await_ready().await, Err(ChannelError::Confused)));
}

#[tokio::test]
async fn a_bundle_may_have_words_in_front_of_it() {
    let (line, theirs) = line();
    say(&theirs, "coming at-once");
    for (bytes, descriptors) in Messages::new(&manifest()).unwrap().iter() {
        fd_passing::send(theirs.as_fd(), &bytes, &descriptors).unwrap();
    }
    let First::All(bundle) = line.receive_first().await.unwrap() else { panic!("nobody said prepare") };
    assert_eq!(bundle.manifest, manifest());
}

#[tokio::test]
async fn a_successor_that_prepares_itself_is_told_first_and_given_the_rest_afterwards() {
    let (old, theirs) = line();
    let new = Channel::new(theirs).unwrap();
    let successor = async {
        new.say_ready().await.unwrap();
        let First::Prepare { bundle: first, precopies } = new.receive_first().await.unwrap() else {
            panic!("all at once")
        };
        assert!(!precopies);
        new.say_prepared().await.unwrap();
        let rest = new.receive_rest(&HashSet::new()).await.unwrap();
        assert_eq!((&first.manifest, &rest.manifest), (&manifest(), &manifest()));
        new.await_go("0+0").await.unwrap();
    };
    let old = async {
        assert_eq!(old.await_ready().await.unwrap(), Ready { prepares: true, precopies: true });
        old.prepare(&manifest(), false).await.unwrap();
        old.send_bundle(&manifest()).await.unwrap();
        old.let_go().unwrap();
    };
    tokio::join!(successor, old);
}

#[tokio::test]
async fn sockets_go_ahead_of_the_rest_where_both_can() {
    let (old, theirs) = line();
    let new = Channel::new(theirs).unwrap();
    let successor = async {
        new.say_ready().await.unwrap();
        let First::Prepare { precopies, .. } = new.receive_first().await.unwrap() else {
            panic!("all at once")
        };
        assert!(precopies);
        new.say_prepared().await.unwrap();
        let mut came = Vec::new();
        let take = |worker, number, _: Sockets| {
            came.push((worker, number));
            Ok::<_, Errno>(())
        };
        new.receive_sockets(take).await.unwrap();
        assert_eq!(came, [(0, 0), (0, 1), (1, 0), (0, 2)]);
        new.receive_rest(&HashSet::new()).await.unwrap();
        new.await_go("0+0").await.unwrap();
    };
    let giving = async {
        assert!(old.await_ready().await.unwrap().precopies);
        old.prepare(&manifest(), true).await.unwrap();
        let sockets: Vec<OwnedFd> =
            (0..4).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        let numbers: Vec<RawFd> = sockets.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        let (one, other) = (old.giver(0).unwrap(), old.giver(1).unwrap());
        one(0, &numbers).unwrap();
        other(0, &numbers[..2]).unwrap();
        one(2, &numbers[2..]).unwrap();
        old.all_sockets_sent().await.unwrap();
        old.send_bundle(&manifest()).await.unwrap();
        old.let_go().unwrap();
    };
    tokio::join!(successor, giving);
}

/// As the release before says it, and what it is given: everything at once.
#[tokio::test]
async fn a_successor_that_does_not_know_how_to_prepare_gets_everything_at_once() {
    let (line, theirs) = line();
    say(&theirs, &format!("ready {VERSION} {VERSION}"));
    assert!(!line.await_ready().await.unwrap().prepares);
    say(&theirs, "ready 99 3 prepared");
    assert!(!line.await_ready().await.unwrap().prepares, "another word");
    say(&theirs, &format!("ready {VERSION} {VERSION} prepare"));
    assert_eq!(line.await_ready().await.unwrap(), Ready { prepares: true, precopies: false });
}

/// What it says must be a line that the release before takes for `ready`.
#[tokio::test]
async fn a_process_that_does_not_know_how_to_prepare_hears_that_it_may_give_everything() {
    let (line, theirs) = line();
    line.say_ready().await.unwrap();
    let mut buffer = [0; 64];
    let arrived = fd_passing::receive(theirs.as_fd(), &mut buffer, false).unwrap().unwrap();
    let said = std::str::from_utf8(&buffer[..arrived.length]).unwrap();
    let (word, words) = said.split_once(' ').unwrap();
    assert_eq!((word, Reads::parse(words)), ("ready", Some(Reads::OWN)));
}

#[tokio::test]
async fn sessions_of_the_rest_may_be_with_backends_that_came_first() {
    let leased = |lease: u64| {
        let mut all = manifest();
        all.flow_terms = vec![crate::manifest::FlowTerms {
            listener: "door".into(),
            pool: "pool".into(),
            idle_ms: None,
            lifetime_ms: None,
            responses: 0,
            requests: 0,
            log_sessions: "all".into(),
        }];
        all.flows = vec![crate::manifest::Flow { lease, fd: 2, ..flow() }];
        all
    };
    for (lease, is_known) in [(7, true), (8, false)] {
        let (old, theirs) = line();
        let new = Channel::new(theirs).unwrap();
        for (bytes, descriptors) in Messages::new(&leased(lease)).unwrap().iter() {
            old.send(&bytes, &descriptors).await.unwrap();
        }
        let rest = new.receive_rest(&HashSet::from([7])).await;
        assert_eq!(rest.is_ok(), is_known, "{rest:?}");
    }
}

fn flow() -> crate::manifest::Flow {
    let somewhere = "127.0.0.1:1".parse().unwrap();
    crate::manifest::Flow {
        worker: 0,
        terms: 0,
        door: 0,
        client: somewhere,
        local: somewhere,
        proxied: None,
        began_ms: 0,
        client_ms: 0,
        backend_ms: 0,
        to_backend: (0, 0),
        to_client: (0, 0),
        owed: 0,
        since_pick: 0,
        rehomed: 0,
        lifetime_end_ms: 0,
        fd: 2,
        lease: 0,
        backend: somewhere,
        origin: (somewhere, false),
        on_down: "keep".into(),
        owes_header: false,
        refused: false,
        asked_us: 0,
        answered: false,
        refusals: 0,
        is_exclusive: false,
        #[cfg(feature = "manifest-next")]
        next: String::new(),
    }
}

#[tokio::test]
async fn the_other_number_of_sessions_is_no_agreement() {
    let (line, theirs) = line();
    say(&theirs, "have 1+0");
    assert!(matches!(line.send_bundle(&manifest()).await, Err(ChannelError::Confused)));
}

/// To a build of which the manifest could not grow: it wanted `2`, and refuses anything else.
#[tokio::test]
async fn a_build_before_hears_another_version() {
    let (line, theirs) = line();
    line.say_ready().await.unwrap();
    let mut buffer = [0; 64];
    let arrived = fd_passing::receive(theirs.as_fd(), &mut buffer, false).unwrap().unwrap();
    let said = std::str::from_utf8(&buffer[..arrived.length]).unwrap();
    let (word, version) = said.split_once(' ').unwrap();
    assert_eq!(word, "ready");
    assert_ne!(version, "2");
    // Likewise the answer of `manifest-version` to one that would leave everything to it.
    assert_ne!(Reads::OWN.to_string().trim(), "2");
}
