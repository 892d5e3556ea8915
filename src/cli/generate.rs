//! Generated documents: the JSON Schema of the file, the manual page, shell completions.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::command_line::Typed;
use super::output::{failed, said, say};
use crate::config;

/// The JSON Schema of the configuration file.
pub(super) fn schema() -> ExitCode {
    said(say(config::schema()))
}

/// The manual page, in roff.
pub(super) fn man() -> ExitCode {
    match manual() {
        Ok(page) => said(say(page.trim_end())),
        Err(error) => failed(&format_args!("the manual page cannot be made: {error}")),
    }
}

/// What a shell needs to complete the command line.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Typed::command(), "evenkeel", &mut script);
    said(say(String::from_utf8_lossy(&script).trim_end()))
}

/// One page: the program, then each command with its options and examples.
fn manual() -> std::io::Result<String> {
    let mut command = Typed::command();
    command.build();
    let mut page = Vec::new();
    let whole = clap_mangen::Man::new(command.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    page.push_str(".SH COMMANDS\n");
    let told = |part: &&mut clap::Command| part.get_name() != "help" && !part.is_hide_set();
    for part in command.get_subcommands_mut().filter(told) {
        let usage = part.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('\n', " ");
        page.push_str(&format!(
            ".SS {}\n{}\n",
            roff(&usage),
            roff(&text(part.get_long_about().or(part.get_about())))
        ));
        for option in part.get_arguments().filter(|option| !option.is_hide_set() && option.get_id() != "help")
        {
            let name = match (option.get_long(), option.get_value_names()) {
                (Some(long), Some([value, ..])) if option.get_action().takes_values() => {
                    format!("--{long} {value}")
                }
                (Some(long), _) => format!("--{long}"),
                (None, Some([value, ..])) => value.to_string(),
                (None, _) => option.get_id().to_string(),
            };
            let default: Vec<_> =
                option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            let default = if default.is_empty() || !option.get_action().takes_values() {
                String::new()
            } else {
                format!(" (default {})", default.join(" "))
            };
            let help = text(option.get_long_help().or(option.get_help()));
            page.push_str(&format!(".TP\n.B {}\n{}{}\n", roff(&name), roff(&help), roff(&default)));
        }
        let examples = text(part.get_after_help());
        if !examples.is_empty() {
            page.push_str(&format!(".PP\n.nf\n{}\n.fi\n", roff(&examples)));
        }
    }
    page.push_str(ENDING);
    Ok(page)
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map_or(String::new(), ToString::to_string)
}

/// Text that roff prints as it stands.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('-', "\\-");
    // A line that begins with a dot or a quote would be a request.
    let line =
        |line: &str| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() };
    escaped.lines().map(line).collect::<Vec<_>>().join("\n")
}

const ENDING: &str = "\
.SH FILES
.TP
.I /etc/evenkeel/evenkeel.yaml
The configuration. \\fBevenkeel check\\fR reads it as the service would; \\fBevenkeel schema\\fR describes it to editors.
.SH EXIT STATUS
.TP
.B 0
done
.TP
.B 1
failed at run time
.TP
.B 64
wrong command line
.TP
.B 69
no balancer answers at the socket
.TP
.B 78
bad configuration
.SH SIGNALS
.TP
.B SIGHUP
reads the file again; a wrong file changes nothing
.TP
.B SIGUSR2
the program and the file on disk take over, with every living session, as \\fBevenkeel upgrade\\fR asks
.TP
.B SIGTERM, SIGINT
nothing new, \\fBshutdown.grace\\fR for living sessions, then the end; a second one cuts what is left
.SH SEE ALSO
.BR systemctl (1),
.BR journalctl (1)
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_tells_of_every_command_and_prints_text_as_it_stands() {
        let page = manual().unwrap();
        for command in Typed::command().get_subcommands() {
            let told = page.contains(&format!(".SS evenkeel {}", roff(command.get_name())));
            assert_eq!(told, !command.is_hide_set(), "{}\n{page}", command.get_name());
        }
        assert!(page.starts_with(".ie") || page.starts_with(".TH"), "{page}");
        assert_eq!(roff("a-b\n.c\\d"), "a\\-b\n\\&.c\\\\d");
    }
}
