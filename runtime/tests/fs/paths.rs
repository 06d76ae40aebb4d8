//! Functions on paths.

use crate::common::pattern;
use crate::directory::Directory;
use demikernel_runtime::fs;
use std::io::{self, ErrorKind};

type Result = io::Result<()>;

pub(crate) async fn whole_files(directory: Directory) -> Result {
    let (one, other) = (directory.path("one"), directory.path("other"));
    let data = pattern(100_000, 1);
    fs::write(&one, &data).await?;
    assert!(fs::read(&one).await? == data);
    assert_eq!(fs::metadata(&one).await?.len(), 100_000);
    assert_eq!(fs::copy(&one, &other).await?, 100_000);
    fs::write(&one, "text").await?;
    assert_eq!(fs::read_to_string(&one).await?, "text");
    fs::rename(&one, &other).await?;
    assert_eq!(fs::read_to_string(&other).await?, "text");
    fs::remove_file(&other).await?;
    assert_eq!(std::fs::read_dir(directory.root())?.count(), 0);
    Ok(())
}

pub(crate) async fn directories(directory: Directory) -> Result {
    fs::create_dir(directory.path("a")).await?;
    fs::create_dir_all(directory.path("a/b/c")).await?;
    fs::create_dir_all(directory.path("a/b/c")).await?;
    assert!(fs::metadata(directory.path("a/b/c")).await?.is_dir());
    fs::remove_dir(directory.path("a/b/c")).await?;
    assert!(fs::remove_dir(directory.path("a")).await.is_err(), "it is not empty");
    fs::remove_dir_all(directory.path("a")).await?;
    assert_eq!(std::fs::read_dir(directory.root())?.count(), 0);
    Ok(())
}

pub(crate) async fn what_is_missing(directory: Directory) -> Result {
    let path = directory.path("missing");
    let errors = [
        fs::read(&path).await.unwrap_err(),
        fs::read_to_string(&path).await.unwrap_err(),
        fs::metadata(&path).await.unwrap_err(),
        fs::remove_file(&path).await.unwrap_err(),
        fs::rename(&path, directory.path("new")).await.unwrap_err(),
        fs::copy(&path, directory.path("new")).await.unwrap_err(),
        fs::write(path.join("below"), "").await.unwrap_err(),
        fs::create_dir(path.join("below")).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    fs::write(&path, [0xff]).await?;
    assert_eq!(fs::read_to_string(&path).await.unwrap_err().kind(), ErrorKind::InvalidData);
    Ok(())
}
