//! Command line: what may be typed, and the help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{commands, import, readiness, top};

/// The whole of it.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, about = "A layer-4 balancer for TCP connections and UDP flows", long_about = LONG_ABOUT)]
#[command(after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Typed {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve until stopped: SIGHUP reloads, SIGTERM or SIGINT drains and stops, a second one cuts what is left
    #[command(
        after_help = "Examples:\n  evenkeel run\n  evenkeel run --config ./evenkeel.yaml\n  evenkeel run --config ./common.yaml --config ./databases.yaml\n  evenkeel run --config /etc/evenkeel/conf.d"
    )]
    Run {
        /// The configuration file, or a folder whose *.yaml are read; may be given several times. Beside a file that is named
        /// alone, the *.yaml of conf.d are read too
        #[arg(long, short = 'c', alias = "file", short_alias = 'f', value_name = "PATH", default_value = DEFAULT_PATH)]
        config: Vec<PathBuf>,
    },
    /// Read the file as `run` would; print what it holds, or every mistake
    #[command(
        after_help = "Examples:\n  evenkeel check\n  evenkeel check ./evenkeel.yaml\n  evenkeel check --resolve\n  evenkeel check --against-running\n  evenkeel check --ask\n  sed s/5432/5433/ /etc/evenkeel/evenkeel.yaml | evenkeel check -\n\nExit code 78: the file has mistakes; 1: a backend that was asked did not answer as it should, or a name was not found."
    )]
    Check {
        /// Look every host name among the backends up once, and show what was found
        #[arg(long)]
        resolve: bool,
        /// What a reload would change, end and keep, as the running balancer sees it: nothing is changed
        #[arg(long, conflicts_with_all = ["resolve", "ask", "paths"])]
        against_running: bool,
        /// The socket of that balancer [default: EVENKEEL_SOCKET, then /run/evenkeel/admin.sock]
        #[arg(long, value_name = "PATH", requires = "against_running")]
        socket: Option<PathBuf>,
        /// Ask every backend once with the checks of the file, and show what each answered
        #[arg(long)]
        ask: bool,
        /// The configuration: files and folders, as `run --config` takes them; -: what comes on standard input
        #[arg(value_name = "PATH", default_value = DEFAULT_PATH)]
        paths: Vec<PathBuf>,
    },
    /// A balancer with built-in backends on loopback, traffic through it, and where it went
    #[command(after_help = "Examples:\n  evenkeel demo\n  evenkeel demo --stay")]
    Demo {
        /// Keep serving afterwards, until Ctrl-C
        #[arg(long)]
        stay: bool,
    },
    #[command(flatten)]
    Running(commands::Command),
    /// The same as `status`, live and full screen, with keys to drain, ready, sort and filter
    #[command(
        after_help = "Examples:\n  evenkeel top\n  evenkeel top --interval 5s\n\nIn it, ? lists the keys. NO_COLOR=1 shows it without colours."
    )]
    Top(top::Top),
    /// The keys of the file: where each stands, its range, its default, what it does
    #[command(
        after_help = "Examples:\n  evenkeel keys\n  evenkeel keys idle\n  evenkeel keys health.interval\n  evenkeel keys rehome\n\nExit code 1: nothing is called so."
    )]
    Keys {
        /// A key, a part of one, or a word of what it does; without it the whole table
        #[arg(value_name = "WORD")]
        word: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a file of a configuration of HAProxy, nginx (stream) or Traefik, and tell what is different and what is lost
    #[command(
        after_help = "Examples:\n  evenkeel import /etc/haproxy/haproxy.cfg >evenkeel.yaml\n  evenkeel import /etc/nginx/nginx.conf --output evenkeel.yaml\n  evenkeel import - --from traefik <dynamic.yaml\n\nWhat is told goes to standard error, and into the file as comments. Exit code 1: nothing came of it; 78: what came of it has mistakes that are to be mended by hand."
    )]
    Import(import::Importing),
    /// The JSON Schema of the file, for editors that complete and check it
    #[command(
        after_help = "Example:\n  evenkeel schema >evenkeel.schema.json\n\nThe first line of the file then names it:\n  # yaml-language-server: $schema=./evenkeel.schema.json"
    )]
    Schema,
    /// Which handovers this program reads, the newest format and the oldest: a process asks the program on disk before it leaves its sessions to it
    #[command(hide = true, after_help = "Example:\n  evenkeel manifest-version")]
    ManifestVersion,
    /// Start a program and end at once: it belongs to the service manager then, and not to the process it follows
    #[command(hide = true, after_help = "Example:\n  evenkeel launch /usr/bin/evenkeel run")]
    Launch {
        /// The program
        program: PathBuf,
        /// What it is told
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Stay connected to the balancer and act on each change: whether clients may be sent to this machine
    #[command(
        override_usage = "evenkeel follow [--listener NAME] [--socket PATH] --file PATH\n       evenkeel follow [--listener NAME] [--socket PATH] --ready CMD --unready CMD [--file PATH]",
        after_help = "Examples:\n  evenkeel follow --file /run/evenkeel-follow/unready        # for keepalived's track_file\n  evenkeel follow --ready 'birdc enable vip' --unready 'birdc disable vip'\n\nThe end of the balancer is unready, and so is the end of this command; its restart and its upgrade are nothing. The commands find EVENKEEL_READY (1 or 0) and EVENKEEL_WHY in their environment, and have 5 s; one that failed is tried again."
    )]
    Follow(readiness::Following),
    /// The manual page
    #[command(after_help = "Example:\n  evenkeel man | man -l -")]
    Man,
    /// What a shell needs to complete the command line
    #[command(after_help = "Example:\n  evenkeel completions bash >/etc/bash_completion.d/evenkeel")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

const DEFAULT_PATH: &str = "/etc/evenkeel/evenkeel.yaml";
const LONG_ABOUT: &str = "A layer-4 balancer for TCP connections and UDP flows: databases, caches, DNS, game servers, \
anything that is not HTTP.\n\nListeners accept connections and flows and hand each to one backend of a pool; health checks say which backends may \
be picked. One YAML file configures it.";
const EXAMPLES: &str = "Examples:\n  evenkeel demo                        see it work, nothing to configure\n  \
evenkeel check ./evenkeel.yaml       is this file right?\n  evenkeel run --config ./evenkeel.yaml";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Typed::command().debug_assert();
    }

    #[test]
    fn help_of_every_command_has_an_example_and_fits_100_columns() {
        let mut command = Typed::command().term_width(100);
        command.build();
        let mut seen = 0;
        for part in command.get_subcommands_mut().filter(|part| part.get_name() != "help") {
            let help = part.render_long_help().to_string();
            let wide = help.lines().find(|line| line.chars().count() > 100);
            assert_eq!(wide, None, "{}", part.get_name());
            assert!(help.contains("Example"), "{help}");
            seen += 1;
        }
        assert!(seen >= 18, "{seen} commands");
    }
}
