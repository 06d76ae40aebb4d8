//! Much data, which comes back as it was.

use crate::programs::captures;
use crate::programs::echoed::echoed;
use crate::tap;

#[test]
fn a_hundred_megabytes_each_way() {
    let Some(lab) = tap("megabytes") else { return };
    // Large segments and checksums that the kernel fills in, and everything by ourselves.
    for (offload, size) in [(true, 100 << 20), (false, 20 << 20)] {
        lab.configure(&format!("offload = {offload}\n"));
        for listen in ["10.9.0.2:0", "[fd00:9::2]:0"] {
            let server = lab.serve("echo", &["serve", "--listen", listen]);
            echoed(server.address, size);
        }
    }
}

#[test]
fn tshark_finds_nothing_wrong() {
    tap("capture").iter().for_each(|lab| captures::tshark_finds_nothing_wrong(lab, ""));
}
