//! The terminal: taken as a whole, and given back as it was, whatever happens.
//!
//! ```text
//!   take ─▶ raw, alternate screen, no cursor ─▶ draw … ─▶ give_back
//!                                                          ▲
//!     the end of the command, a failure, a panic, a signal ╯
//! ```

use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Rect, Size};
use ratatui::prelude::CrosstermBackend;
use std::io::{self, BufWriter, Stdout, Write as _};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::state::Key;
use crate::output::silence_asides;

/// The terminal is ours, and has to be given back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, for as long as this lives.
pub(crate) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    shown: Option<Buffer>,
}

impl Terminal {
    /// Takes it.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn take() -> io::Result<Terminal> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                give_back();
                usual(panic);
            }));
        });
        // A frame is one write: over a slow link it is seen whole or not at all.
        let writer = BufWriter::with_capacity(64 * 1024, io::stdout());
        let inner = ratatui::Terminal::new(CrosstermBackend::new(writer))?;
        enter()?;
        Ok(Terminal { inner, shown: None })
    }

    /// How large it is.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn area(&self) -> io::Result<Rect> {
        let Size { width, height } = self.inner.size()?;
        Ok(Rect { x: 0, y: 0, width, height })
    }

    /// Shows a frame: what differs from the one before, and nothing where nothing does.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn show(&mut self, frame: Buffer) -> io::Result<()> {
        if self.shown.as_ref() == Some(&frame) {
            return Ok(());
        }
        self.inner.draw(|screen| {
            let area = screen.area().intersection(frame.area);
            let buffer = screen.buffer_mut();
            for position in area.positions() {
                if let (Some(to), Some(from)) = (buffer.cell_mut(position), frame.cell(position)) {
                    *to = from.clone();
                }
            }
        })?;
        self.shown = Some(frame);
        Ok(())
    }

    /// What is there is not known any more: the next frame is shown whole.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn forget(&mut self) -> io::Result<()> {
        self.shown = None;
        // `clear` would ask the terminal where its cursor is, and who reads keys would get the answer.
        self.inner.resize(self.area()?)
    }

    /// Takes it again after it was given back, or after somebody else may have changed it.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn take_again(&mut self) -> io::Result<()> {
        give_back();
        enter()?;
        self.forget()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    silence_asides(true);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// Gives the terminal back as it was, once. What it does not take, nobody can help.
pub(crate) fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = io::stdout().flush();
        let _ = disable_raw_mode();
        silence_asides(false);
    }
}

/// Something that comes from the terminal.
pub(crate) enum Input {
    Key(Key),
    /// It has another size.
    Resized,
}

/// What comes from the terminal, up to its end. A thread waits for it: reading a terminal blocks.
pub(crate) fn input() -> UnboundedReceiver<Input> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            let input = match event {
                event::Event::Key(key) => key_of(key).map(Input::Key),
                event::Event::Resize(..) => Some(Input::Resized),
                _ => None,
            };
            if input.is_some_and(|input| sender.send(input).is_err()) {
                return;
            }
        }
    });
    receiver
}

fn key_of(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        return match event.code {
            KeyCode::Char('c') => Some(Key::Interrupt),
            KeyCode::Char('z') => Some(Key::Suspend),
            KeyCode::Char('l') => Some(Key::Redraw),
            KeyCode::Char('p') => Some(Key::Up),
            KeyCode::Char('n') => Some(Key::Down),
            KeyCode::Char('h') => Some(Key::Backspace),
            _ => None,
        };
    }
    Some(match event.code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::First,
        KeyCode::End => Key::Last,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Char(sign) => Key::Char(sign),
        _ => return None,
    })
}
