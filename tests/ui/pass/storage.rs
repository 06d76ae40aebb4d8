//! Logs are where the macro says.

#[demikernel::main(transport = "epoll", storage = "memory:1MiB")]
async fn main() -> std::io::Result<()> {
    let log = demikernel::storage::log("orders").await?;
    log.push(demikernel::Buffer::from("one coffee")).await?;
    assert_eq!(demikernel::storage::log("orders").await?.end(), 1);
    Ok(())
}
