//! Where generated requests come from.

/// SplitMix64: the same requests in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).expect("below a usize")
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    pub(crate) fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let length = self.below(longest + 1);
        (0..length).map(|_| self.roll().to_le_bytes()[0]).collect()
    }

    /// Pieces that mean something, strung together with bytes that mean nothing.
    pub(crate) fn woven(&mut self, pieces: &[&str], longest: usize) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..self.below(longest + 1) {
            if self.one_in(8) {
                text.extend(self.bytes(4));
            } else {
                text.extend(self.pick(pieces).as_bytes());
            }
        }
        text
    }
}
