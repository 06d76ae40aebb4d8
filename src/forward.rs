//! Methods of a wrapper's `AsyncBufRead` and `AsyncWrite`, which do what the stream inside does, whichever library's
//! traits those on either side are.
//!
//! They stand in an implementation of the trait, for a type whose `inner` gives the stream, pinned.

macro_rules! forward_buf_read {
    () => {
        fn poll_fill_buf(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<&[u8]>> {
            self.inner().poll_fill_buf(cx)
        }

        fn consume(self: ::std::pin::Pin<&mut Self>, count: usize) {
            self.inner().consume(count);
        }
    };
}

/// By what names the end of writing goes, outside and inside: `poll_close` or `poll_shutdown`.
macro_rules! forward_write {
    ($outside:ident => $inside:ident) => {
        fn poll_write(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            bytes: &[u8],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            self.inner().poll_write(cx, bytes)
        }

        fn poll_write_vectored(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            slices: &[::std::io::IoSlice<'_>],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            self.inner().poll_write_vectored(cx, slices)
        }

        fn poll_flush(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            self.inner().poll_flush(cx)
        }

        fn $outside(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            self.inner().$inside(cx)
        }
    };
}

pub(crate) use {forward_buf_read, forward_write};
