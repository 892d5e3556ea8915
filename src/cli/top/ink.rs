//! Colours of the screen, where there are any.

use ratatui::style::{Color, Modifier, Style};

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ink {
    pub(super) has_colours: bool,
}

impl Ink {
    /// A style in that colour, where there are colours.
    pub(super) fn of(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// What a state looks like.
    pub(super) fn state(self, state: &str) -> Style {
        match state {
            "up" | "standby" => self.of(Color::Green),
            "down" | "marked down" | "stale primary" | "contested" => {
                self.of(Color::Red).add_modifier(Modifier::BOLD)
            }
            "" => Style::new(),
            _ => self.of(Color::Yellow),
        }
    }
}
