//! The command line: what was typed, and what each command does. Exit codes: 0 done, 1 failed at run time, 64 wrong
//! command line, 69 no balancer answers, 78 bad configuration.

mod as_meant;
mod ask;
mod check;
mod client;
mod command_line;
mod commands;
mod demo;
mod exit_code;
mod follow;
mod generate;
mod import;
mod keys;
mod launch;
mod output;
mod readiness;
mod resolve;
mod run;
mod top;

use std::process::ExitCode;

use clap::Parser;

use command_line::{Command, Typed};
use exit_code::WRONG_COMMAND_LINE;
use readiness::Following;

/// Runs the command of this process.
pub fn main() -> ExitCode {
    let typed = match Typed::try_parse_from(as_meant::as_meant(std::env::args_os().collect())) {
        Ok(typed) => typed,
        Err(error) => {
            let printed = error.print();
            // Help that was asked for and cannot be written is a failure; a complaint has nobody else to complain to.
            return if error.use_stderr() {
                ExitCode::from(WRONG_COMMAND_LINE)
            } else {
                output::said(output::heard(printed))
            };
        }
    };
    match typed.command {
        Command::Run { config } => run::run(&config),
        Command::Check { against_running: true, socket, .. } => check::against_running(socket),
        Command::Check { resolve, ask, paths, .. } => check::check(&paths, resolve, ask),
        Command::Demo { stay } => demo::demo(stay),
        Command::Running(command) => commands::run(command),
        Command::Top(top) => top::top(top),
        Command::Keys { word, json } => keys::keys(word.as_deref(), json),
        Command::Import(importing) => import::run(&importing),
        Command::Schema => generate::schema(),
        Command::ManifestVersion => output::said(output::say(crate::manifest::Reads::OWN)),
        Command::Launch { program, arguments } => launch::launch(&program, &arguments),
        // What a process becomes that has handed over; it says nothing but a number.
        Command::Follow(Following { pid: Some(pid), .. }) => follow::follow(pid),
        Command::Follow(following) => readiness::follow(following),
        Command::Man => generate::man(),
        Command::Completions { shell } => generate::completions(shell),
    }
}
