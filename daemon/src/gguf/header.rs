//! A GGUF header: magic, version, counts, metadata, tensor list.
//!
//! ```text
//! "GGUF" | version u32 | tensors u64 | pairs u64 | pairs … | tensor list … | padding | tensor data …
//! ```
//!
//! Everything is little-endian. Version 1 had 32-bit lengths and is from August 2023; versions 2 and 3 have the same layout.

use std::io::{Read, Seek};

use super::error::Problem;
use super::lookalike::{self, Lookalike};
use super::metadata::Metadata;
use super::source::Source;
use super::tensors::TensorTotals;

const MAGIC: &[u8; 4] = b"GGUF";

/// Most bytes read from one file. The headers of the largest vocabularies take some 20 MB.
pub(super) const READ_BUDGET_BYTES: u64 = 64 * 1024 * 1024;

/// What one file says about itself, checked against its size.
#[derive(Debug)]
pub struct Header {
    /// GGUF version, 2 or 3.
    pub version: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: TensorTotals,
}

/// Reads the header of a file of `file_bytes` bytes from `source`, which stands at its start, and checks that all
/// tensor data lies inside the file.
///
/// Reads at most 64 MiB, holds less than 1 MiB, whatever the bytes say; tensor data is not read.
///
/// # Errors
/// Any [`Problem`] of one file's contents; never a panic, whatever the bytes are.
pub fn read_header<R: Read + Seek>(source: R, file_bytes: u64) -> Result<Header, Problem> {
    let mut budget_bytes = READ_BUDGET_BYTES;
    read_header_within(source, file_bytes, &mut budget_bytes)
}

/// The same, reading at most `budget_bytes`, from which what was read is subtracted.
pub(super) fn read_header_within<R: Read + Seek>(
    source: R,
    file_bytes: u64,
    budget_bytes: &mut u64,
) -> Result<Header, Problem> {
    let mut source = Source::new(source, file_bytes, *budget_bytes);
    check_magic(&mut source)?;
    let version = read_version(&mut source)?;
    let tensor_count = source.u64()?;
    let pair_count = source.u64()?;
    let metadata = Metadata::read(&mut source, pair_count)?;
    let alignment = metadata.alignment()?;
    let tensors = TensorTotals::read(&mut source, tensor_count, alignment)?;
    *budget_bytes = source.budget_bytes();
    if tensors.count > 0 {
        let needed_bytes = source
            .position()
            .checked_next_multiple_of(u64::from(alignment))
            .and_then(|start| start.checked_add(tensors.data_bytes))
            .ok_or_else(|| Problem::Hostile("a tensor that ends beyond 2^64 bytes".to_owned()))?;
        if needed_bytes > file_bytes {
            return Err(Problem::TruncatedData { needed_bytes, file_bytes });
        }
    }
    Ok(Header { version, metadata, tensors })
}

fn check_magic<R: Read + Seek>(source: &mut Source<R>) -> Result<(), Problem> {
    let file_bytes = source.file_bytes();
    if file_bytes == 0 {
        return Err(Problem::Empty);
    }
    let first = source.peek(lookalike::PREVIEW_BYTES)?;
    if first.starts_with(MAGIC) {
        return source.skip(MAGIC.len() as u64);
    }
    if MAGIC.starts_with(first) {
        return Err(Problem::TruncatedHeader { file_bytes });
    }
    Err(Problem::NotGguf {
        starts_with: lookalike::quoted(first),
        looks_like: Lookalike::of(first),
    })
}

fn read_version<R: Read + Seek>(source: &mut Source<R>) -> Result<u32, Problem> {
    match source.u32()? {
        version @ (2 | 3) => Ok(version),
        // The magic is the same four bytes in either order; a version with nothing in its low half gives it away.
        version if version != 0 && version.trailing_zeros() >= 16 => Err(Problem::BigEndian),
        version => Err(Problem::UnsupportedVersion { version }),
    }
}
