//! How much one model, the defaults or a runtime may hold. What a call may bring is bounded where it
//! is read; here it is what many calls add up to.

use super::{Result, StoreError};
use llamactl_protocol::bounds::{MAX_ALIASES, MAX_SETTINGS};
use llamactl_protocol::options::Settings;
use rusqlite::Connection;
use std::io;

/// The most bytes that settings have as JSON: whoever asks for them gets them in one answer.
const MAX_SETTINGS_BYTES: usize = 192 << 10;

/// Refuses settings that have become too many, or too long. Fewer than before are never refused.
pub(super) fn check_settings(before: &Settings, after: &Settings) -> Result<()> {
    if after.len() > MAX_SETTINGS && after.len() > before.len() {
        let many = format!("{} settings are too many: {MAX_SETTINGS} may be set", after.len());
        return Err(StoreError::TooMuch(many));
    }
    let bytes = json_bytes(after);
    if bytes > MAX_SETTINGS_BYTES && bytes > json_bytes(before) {
        let long =
            format!("these settings have {bytes} bytes together: {MAX_SETTINGS_BYTES} may be set");
        return Err(StoreError::TooMuch(long));
    }
    Ok(())
}

/// Refuses one alias more than a model may have.
pub(super) fn check_aliases(connection: &Connection, model: i64) -> Result<()> {
    let there: usize = connection
        .prepare_cached("SELECT count(*) FROM model_names WHERE model_id = ?1 AND is_alias = 1")?
        .query_row([model], |row| row.get(0))?;
    if there >= MAX_ALIASES {
        return Err(StoreError::TooMuch(format!("a model may have {MAX_ALIASES} aliases")));
    }
    Ok(())
}

fn json_bytes(settings: &Settings) -> usize {
    struct Count(usize);

    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    // JSON values are JSON.
    let _ = serde_json::to_writer(&mut count, settings);
    count.0
}
