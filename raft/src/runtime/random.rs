//! Random numbers, which follow from the seed in a simulation.

use rand::TryRng;
use std::convert::Infallible;

/// Draws election timeouts: from the simulation that the code runs in, else from the thread's generator.
#[derive(Clone, Copy, Debug)]
pub struct Random;

fn draw() -> u64 {
    #[cfg(feature = "sim")]
    if let Some(simulation) = demikernel::sim::Control::try_current() {
        return simulation.random();
    }
    rand::Rng::next_u64(&mut rand::rng())
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((draw() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(draw())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&draw().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
