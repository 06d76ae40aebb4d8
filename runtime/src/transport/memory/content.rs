//! What is in a file.

use std::collections::BTreeMap;

const BLOCK: u64 = 4096;

/// Bytes, of which those that were never written are zeros and take no memory.
#[derive(Debug, Default)]
pub(super) struct Content {
    blocks: BTreeMap<u64, Box<[u8; BLOCK as usize]>>,
    length: u64,
}

/// The files of Linux are no longer.
pub(super) const LONGEST: u64 = i64::MAX as u64;

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `offset` on, at most `count`, in pieces.
    pub(super) fn read(&self, offset: u64, count: usize, mut piece: impl FnMut(&[u8])) {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        let end = self.length.min(offset.saturating_add(count as u64));
        let mut at = offset;
        while at < end {
            let (block, start) = (at / BLOCK, (at % BLOCK) as usize);
            let size = (BLOCK - at % BLOCK).min(end - at) as usize;
            let bytes = self.blocks.get(&block).map_or(&ZEROS, |block| &**block);
            piece(&bytes[start..start + size]);
            at += size as u64;
        }
    }

    /// Writes bytes at an offset. Neither end is beyond [`LONGEST`].
    pub(super) fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let mut at = offset;
        while !bytes.is_empty() {
            let start = (at % BLOCK) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK as usize - start));
            let block = self.blocks.entry(at / BLOCK).or_insert_with(|| Box::new([0; BLOCK as usize]));
            block[start..start + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            bytes = later;
        }
        self.length = self.length.max(at);
    }

    pub(super) fn truncate(&mut self, length: u64) {
        if length < self.length {
            self.blocks.split_off(&length.div_ceil(BLOCK));
            if let Some(last) = self.blocks.get_mut(&(length / BLOCK)) {
                last[(length % BLOCK) as usize..].fill(0);
            }
        }
        self.length = length;
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read(0, usize::MAX, |piece| bytes.extend_from_slice(piece));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(content: &Content, offset: u64, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        content.read(offset, count, |piece| bytes.extend_from_slice(piece));
        bytes
    }

    #[test]
    fn far_away_bytes_cost_nothing() {
        let mut content = Content::default();
        content.truncate(LONGEST);
        content.write(LONGEST - 2, b"xy");
        assert_eq!((content.length(), content.blocks.len()), (LONGEST, 1));
        assert_eq!(read(&content, LONGEST - 3, 100), b"\0xy");
        assert_eq!(read(&content, u64::MAX, 100), b"");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Truncate(u64),
        Read(u64, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let offset = 0..20_000u64;
        prop_oneof![
            (offset.clone(), proptest::collection::vec(any::<u8>(), 0..10_000))
                .prop_map(|(offset, bytes)| Step::Write(offset, bytes)),
            offset.clone().prop_map(Step::Truncate),
            (offset, 0..20_000usize).prop_map(|(offset, count)| Step::Read(offset, count)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn it_is_as_an_array(steps in proptest::collection::vec(step(), 1..30)) {
            let mut content = Content::default();
            let mut model: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    // Writing nothing does not make a file longer.
                    Step::Write(_, bytes) if bytes.is_empty() => {}
                    Step::Write(offset, bytes) => {
                        content.write(offset, &bytes);
                        let end = offset as usize + bytes.len();
                        model.resize(model.len().max(end), 0);
                        model[offset as usize..end].copy_from_slice(&bytes);
                    }
                    Step::Truncate(length) => {
                        content.truncate(length);
                        model.resize(length as usize, 0);
                    }
                    Step::Read(offset, count) => {
                        let start = model.len().min(offset as usize);
                        let end = model.len().min(offset as usize + count);
                        prop_assert_eq!(read(&content, offset, count), &model[start..end.max(start)]);
                    }
                }
                prop_assert_eq!(content.length(), model.len() as u64);
            }
            prop_assert_eq!(content.to_vec(), model);
        }
    }
}
