//! Names and aliases: one namespace, each pointing at one model.

use super::bounds::check_aliases;
use super::{Result, StoreError};
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
    Err(StoreError::ModelNotFound(reference.to_owned()))
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
