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
    })
}

/// What a process says of itself that was asked whether it is ready.
async fn answer_to(words: &str) -> Result<(), String> {
    let (line, theirs) = line();
    say(&theirs, words);
    line.await_ready().await.map_err(|error| error.to_string())
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
    assert_eq!(line.receive_bundle().await.unwrap().manifest, manifest());
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
