//! Handlers behind the stand-in for the host, and called directly.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on fails

/// A test for each mode.
macro_rules! in_each_mode {
    ($($story:ident;)*) => {
        in_each_mode! { @ proxied Proxy: $($story)* }
        in_each_mode! { @ forwarded Forward: $($story)* }
        in_each_mode! { @ payload Payload: $($story)* }
    };
    (@ $module:ident $mode:ident: $($story:ident)*) => {
        mod $module {$(
            #[tokio::test]
            async fn $story() {
                super::$story(custom_handler::testing::Mode::$mode).await;
            }
        )*}
    };
}

mod handler;
mod lifecycle;
mod limits;
mod logging;
mod modes;
mod payload;
mod support;
