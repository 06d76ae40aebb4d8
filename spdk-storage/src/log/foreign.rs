//! What is on a device that is no store of logs, for people to recognise what they would lose.

/// How much of a device to look at.
pub(crate) const LOOK: usize = 128 << 10;

/// Signatures, where they are, and what they are of.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, b"XFSB", "an XFS file system"),
    (0, b"LUKS\xba\xbe", "a LUKS volume (encrypted data)"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\x7fELF", "an ELF program"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"KDMV", "a VMDK disk image"),
    (0, b"QFI\xfb", "a QCOW2 disk image"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"REDIS", "a Redis snapshot"),
    (3, b"NTFS    ", "an NTFS file system"),
    (54, b"FAT", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (257, b"ustar", "a tar archive"),
    (512, b"LABELONE", "an LVM volume"),
    (512, b"EFI PART", "a GPT partition table"),
    (4096, b"EFI PART", "a GPT partition table"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    (4096, b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID"),
    (4086, b"SWAPSPACE2", "Linux swap space"),
    (65536 + 64, b"_BHRfS_M", "a Btrfs file system"),
    (32769, b"CD001", "an ISO 9660 image"),
    (510, b"\x55\xaa", "a partition table or boot sector"),
];

/// What the beginning of a device seems to hold; nothing if it is blank.
pub(crate) fn identify(bytes: &[u8]) -> Option<String> {
    for (at, signature, what) in SIGNATURES {
        if bytes.get(*at..).is_some_and(|rest| rest.starts_with(signature)) {
            return Some((*what).to_owned());
        }
    }
    let first = bytes.iter().position(|byte| *byte != 0)?;
    let some = &bytes[first..bytes.len().min(first + 16)];
    let is_text = some.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\n' | b'\r' | 9));
    Some(match is_text {
        true => format!("text ({:?} at {first})", String::from_utf8_lossy(some)),
        false => format!("data of an unknown kind ({some:02x?} at {first})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_named() {
        for (at, signature, what) in SIGNATURES {
            let mut bytes = vec![0; LOOK];
            bytes[*at..][..signature.len()].copy_from_slice(signature);
            assert_eq!(identify(&bytes).as_deref(), Some(*what));
        }
        assert_eq!(identify(&[0; 4096]), None);
        assert_eq!(identify(b"\0\0notes of mine\n").unwrap(), "text (\"notes of mine\\n\" at 2)");
        assert_eq!(identify(&[0, 200, 1]).unwrap(), "data of an unknown kind ([c8, 01] at 1)");
        assert!(identify(b"short").unwrap().starts_with("text"));
    }
}
