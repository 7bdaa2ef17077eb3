//! A GGUF file as bytes: pairs, tensor list, data. Knows the format and nothing about models.
//!
//! Data is produced while it is written, so a file of any size needs little memory.

use std::io::{self, Read, Write};

use super::noise::Noise;

const VERSION: u32 = 3;
const ALIGNMENT: u64 = 32;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    U16(u16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What is in a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// F32 numbers.
    F32(Vec<f32>),
    /// The bits of F16 numbers.
    F16(Vec<u16>),
    /// F16 zeros.
    ZerosF16,
    /// F16 noise, by seed.
    NoiseF16(u64),
    /// F32 noise, by seed.
    NoiseF32(u64),
}

/// A tensor: name, dimensions (the row's length first), content.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dimensions: Vec<u64>,
    pub(super) content: Content,
}

impl Tensor {
    fn elements(&self) -> u64 {
        self.dimensions.iter().product()
    }

    /// The number of the element type.
    fn type_id(&self) -> u32 {
        match self.content {
            Content::F32(_) | Content::NoiseF32(_) => 0,
            Content::F16(_) | Content::ZerosF16 | Content::NoiseF16(_) => 1,
        }
    }

    /// Size of the data.
    pub(super) fn bytes(&self) -> u64 {
        self.elements() * if self.type_id() == 0 { 4 } else { 2 }
    }

    fn write_data(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.content {
            Content::F32(numbers) => {
                numbers.iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))
            }
            Content::F16(numbers) => {
                numbers.iter().try_for_each(|bits| out.write_all(&bits.to_le_bytes()))
            }
            Content::ZerosF16 => io::copy(&mut io::repeat(0).take(self.bytes()), out).map(|_| ()),
            Content::NoiseF16(seed) => {
                let mut noise = Noise::new(*seed);
                write_repeatedly(out, self.bytes(), || noise.next_f16x4())
            }
            Content::NoiseF32(seed) => {
                let mut noise = Noise::new(*seed);
                write_repeatedly(out, self.bytes(), || noise.next_f32x2())
            }
        }
    }
}

/// Writes `bytes` bytes, eight by eight.
fn write_repeatedly(
    out: &mut impl Write,
    bytes: u64,
    mut next: impl FnMut() -> [u8; 8],
) -> io::Result<()> {
    for _ in 0..bytes / 8 {
        out.write_all(&next())?;
    }
    let rest = usize::try_from(bytes % 8).unwrap_or(0);
    out.write_all(next().get(..rest).unwrap_or_default())
}

/// Writes a whole file.
pub(super) fn write(
    out: &mut impl Write,
    pairs: &[(String, Value)],
    tensors: &[Tensor],
) -> io::Result<()> {
    let mut header = b"GGUF".to_vec();
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        put_text(&mut header, key);
        put_value(&mut header, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        put_text(&mut header, &tensor.name);
        header.extend(u32::try_from(tensor.dimensions.len()).unwrap_or(u32::MAX).to_le_bytes());
        header.extend(tensor.dimensions.iter().flat_map(|length| length.to_le_bytes()));
        header.extend(tensor.type_id().to_le_bytes());
        header.extend(u64::to_le_bytes(offset));
        offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT);
    }
    out.write_all(&header)?;
    write_padding(out, header.len() as u64)?;
    for tensor in tensors {
        tensor.write_data(out)?;
        write_padding(out, tensor.bytes())?;
    }
    Ok(())
}

/// Fills up after `bytes` bytes to the next aligned place.
fn write_padding(out: &mut impl Write, bytes: u64) -> io::Result<()> {
    for _ in bytes..bytes.next_multiple_of(ALIGNMENT) {
        out.write_all(&[0])?;
    }
    Ok(())
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The type and the value; the type numbers are the format's.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    let put_type = |out: &mut Vec<u8>, number: u32| out.extend(number.to_le_bytes());
    let put_array = |out: &mut Vec<u8>, element: u32, length: usize| {
        put_type(out, 9);
        put_type(out, element);
        out.extend((length as u64).to_le_bytes());
    };
    match value {
        Value::U16(number) => {
            put_type(out, 2);
            out.extend(number.to_le_bytes());
        }
        Value::U32(number) => {
            put_type(out, 4);
            out.extend(number.to_le_bytes());
        }
        Value::I32(number) => {
            put_type(out, 5);
            out.extend(number.to_le_bytes());
        }
        Value::F32(number) => {
            put_type(out, 6);
            out.extend(number.to_le_bytes());
        }
        Value::Bool(flag) => {
            put_type(out, 7);
            out.push(u8::from(*flag));
        }
        Value::Text(text) => {
            put_type(out, 8);
            put_text(out, text);
        }
        Value::Texts(texts) => {
            put_array(out, 8, texts.len());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Value::F32s(numbers) => {
            put_array(out, 6, numbers.len());
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Value::I32s(numbers) => {
            put_array(out, 5, numbers.len());
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
    }
}
