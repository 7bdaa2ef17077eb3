//! Headers for the tests of this module, byte by byte: valid ones, and ones that lie.

/// Type numbers of metadata values.
pub(super) const U32: u32 = 4;
pub(super) const STRING: u32 = 8;
pub(super) const ARRAY: u32 = 9;

/// A GGUF file under construction. Counts can be overridden to lie.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) version: u32,
    pub(super) tensor_count: Option<u64>,
    pub(super) pair_count: Option<u64>,
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data_bytes: u64,
    alignment: u64,
}

impl Sample {
    /// A header with nothing in it.
    pub(super) fn empty() -> Self {
        Self {
            version: 3,
            tensor_count: None,
            pair_count: None,
            pairs: Vec::new(),
            tensors: Vec::new(),
            data_bytes: 0,
            alignment: 32,
        }
    }

    /// A small model as people have them, with values of every kind in its header.
    pub(super) fn model() -> Self {
        Self::empty()
            .text("general.architecture", "qwen3")
            .text("general.type", "model")
            .text("general.name", "Tiny Qwen")
            .text("general.basename", "Qwen")
            .text("general.size_label", "8B")
            .pair("general.tags", ARRAY, &strings(&["chat", "tiny"]))
            .u32("general.file_type", 15)
            .u32("qwen3.context_length", 4096)
            .u32("qwen3.block_count", 2)
            .u32("qwen3.embedding_length", 256)
            .u32("qwen3.feed_forward_length", 512)
            .u32("qwen3.attention.head_count", 8)
            .u32("qwen3.attention.head_count_kv", 2)
            .pair("qwen3.rope.freq_base", 6, &1e6_f32.to_le_bytes())
            .pair("qwen3.big", 10, &u64::MAX.to_le_bytes())
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "qwen2")
            .pair("tokenizer.ggml.tokens", ARRAY, &strings(&["a", "b", "ab", ""]))
            .pair("tokenizer.ggml.token_type", ARRAY, &numbers(5, &[1, 1, 1, 3]))
            .pair("tokenizer.ggml.add_bos_token", 7, &[0])
            .text("tokenizer.chat_template", "{{ messages }}")
            .tensor("token_embd.weight", &[256, 4], 12)
            .tensor("blk.0.attn_q.weight", &[256, 256], 12)
            .tensor("output_norm.weight", &[256], 0)
            .tensor("output.weight", &[256, 4], 14)
    }

    /// Adds a pair with any bytes as its value.
    pub(super) fn pair(mut self, key: &str, value_type: u32, value: &[u8]) -> Self {
        let mut pair = string(key.as_bytes());
        pair.extend(value_type.to_le_bytes());
        pair.extend(value);
        self.pairs.push(pair);
        self
    }

    pub(super) fn text(self, key: &str, text: &str) -> Self {
        self.pair(key, STRING, &string(text.as_bytes()))
    }

    pub(super) fn u32(mut self, key: &str, number: u32) -> Self {
        if key == "general.alignment" && number > 0 {
            self.alignment = number.into();
        }
        self.pair(key, U32, &number.to_le_bytes())
    }

    /// Adds a tensor and, for the types the tests use, its data.
    pub(super) fn tensor(mut self, name: &str, dimensions: &[u64], type_id: u32) -> Self {
        let elements: u64 = dimensions.iter().product();
        let bytes = match type_id {
            0 => elements * 4,
            12 => elements / 256 * 144,
            14 => elements / 256 * 210,
            _ => 0,
        };
        let offset = self.data_bytes.next_multiple_of(self.alignment);
        self.data_bytes = offset + bytes;
        self.raw_tensor(name, dimensions, type_id, offset)
    }

    /// Adds a tensor to the list only.
    pub(super) fn raw_tensor(
        mut self,
        name: &str,
        dimensions: &[u64],
        type_id: u32,
        offset: u64,
    ) -> Self {
        let mut tensor = string(name.as_bytes());
        tensor.extend(u32::try_from(dimensions.len()).unwrap_or(u32::MAX).to_le_bytes());
        tensor.extend(dimensions.iter().flat_map(|length| length.to_le_bytes()));
        tensor.extend(type_id.to_le_bytes());
        tensor.extend(offset.to_le_bytes());
        self.tensors.push(tensor);
        self
    }

    /// The file without padding and data.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        bytes.extend(self.pairs.concat());
        bytes.extend(self.tensors.concat());
        bytes
    }

    /// The whole file.
    pub(super) fn file(&self) -> Vec<u8> {
        let mut bytes = self.header();
        let data_start = (bytes.len() as u64).next_multiple_of(self.alignment);
        bytes.resize(usize::try_from(data_start + self.data_bytes).unwrap_or(0), 0);
        bytes
    }
}

/// A string as it lies in the file.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// The start of an array: the type of its elements and how many there are.
pub(super) fn array_start(element: u32, length: u64) -> Vec<u8> {
    [element.to_le_bytes().as_slice(), &length.to_le_bytes()].concat()
}

/// An array of strings.
pub(super) fn strings(texts: &[&str]) -> Vec<u8> {
    let mut bytes = array_start(STRING, texts.len() as u64);
    bytes.extend(texts.iter().flat_map(|text| string(text.as_bytes())));
    bytes
}

/// An array of 32-bit numbers of type `element`.
pub(super) fn numbers(element: u32, numbers: &[i32]) -> Vec<u8> {
    let mut bytes = array_start(element, numbers.len() as u64);
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}
