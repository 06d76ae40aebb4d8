//! The facade under another name, `?` in the body, and an opaque return type.

use demikernel as dk;
use std::process::Termination;

mod opaque {
    use super::*;

    #[dk::main(crate = "dk")]
    pub(crate) async fn main() -> impl Termination {
        let number: u8 = "7".parse()?;
        assert_eq!(number, 7);
        Ok::<(), std::num::ParseIntError>(())
    }
}

fn main() -> impl Termination {
    opaque::main()
}
