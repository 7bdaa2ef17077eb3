//! Names and aliases: one namespace, each pointing at one model.

use super::bounds::check_aliases;
use super::{Result, StoreError};
use llamactl_protocol::options::nearest;
use rusqlite::{Connection, OptionalExtension as _, params};

/// The model a person means by `reference`: a name, an alias, or an id in digits (a name of
/// digits only wins over the id).
pub(super) fn resolve(connection: &Connection, reference: &str) -> Result<i64> {
    let by_name = connection
        .prepare_cached("SELECT model_id FROM model_names WHERE name = ?1")?
        .query_row([reference], |row| row.get(0))
        .optional()?;
    if let Some(id) = by_name {
        return Ok(id);
    }
    if let Ok(id) = reference.parse::<i64>() {
        let by_id = connection
            .prepare_cached(
                "SELECT model_id FROM model_names WHERE model_id = ?1 AND is_alias = 0",
            )?
            .query_row([id], |row| row.get(0))
            .optional()?;
        if let Some(id) = by_id {
            return Ok(id);
        }
    }
    Err(match meant(connection, reference)? {
        Some(meant) => StoreError::ModelMistyped { given: reference.to_owned(), meant },
        None => StoreError::ModelNotFound(reference.to_owned()),
    })
}

/// So many names are looked at for the one that was meant: a comparison costs as much as two names
/// are long.
const LIKE: u32 = 500;

/// The name that was probably meant, if one is near.
fn meant(connection: &Connection, reference: &str) -> Result<Option<String>> {
    let length = reference.chars().count();
    let names = connection
        .prepare_cached(
            "SELECT name FROM model_names WHERE length(name) BETWEEN ?1 AND ?2
             ORDER BY name COLLATE NOCASE = ?3 DESC LIMIT ?4",
        )?
        .query_map(params![length.saturating_sub(2), length + 2, reference, LIKE], |row| {
            row.get(0)
        })?
        .collect::<Result<Vec<String>, _>>()?;
    // Another case is nearer than another letter.
    let same = names.iter().find(|name| name.to_lowercase() == reference.to_lowercase());
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(same.cloned().or_else(|| nearest(reference, &known).map(str::to_owned)))
}

/// Gives `name` to a model, as its name or as an alias.
pub(super) fn take(connection: &Connection, name: &str, model: i64, is_alias: bool) -> Result<()> {
    if let Some(by) = owner(connection, name)? {
        return Err(StoreError::NameTaken { name: name.to_owned(), by });
    }
    if is_alias {
        check_aliases(connection, model)?;
    }
    connection
        .prepare_cached("INSERT INTO model_names (name, model_id, is_alias) VALUES (?1, ?2, ?3)")?
        .execute(params![name, model, is_alias])?;
    Ok(())
}

/// The name of the model that has `name` as its name or alias.
pub(super) fn owner(connection: &Connection, name: &str) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached(
            "SELECT own.name FROM model_names AS taken
             JOIN model_names AS own ON own.model_id = taken.model_id AND own.is_alias = 0
             WHERE taken.name = ?1",
        )?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

/// The first of `name-2`, `name-3`, … that is free.
pub(super) fn free_variant(connection: &Connection, name: &str) -> Result<Option<String>> {
    for number in 2..1000 {
        let candidate = format!("{name}-{number}");
        if owner(connection, &candidate)?.is_none() {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}
