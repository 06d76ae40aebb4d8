//! What is counted, by name.

/// An enumeration of what is counted, each with the name by which people see it.
macro_rules! counters {
    ($(#[$doc_of_all:meta])* $counter:ident: $($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        $(#[$doc_of_all])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum $counter {
            $($(#[$doc])* $variant,)*
        }

        impl $counter {
            /// All of them.
            pub const ALL: &'static [$counter] = &[$($counter::$variant,)*];

            /// For people.
            pub const fn name(self) -> &'static str {
                match self {
                    $($counter::$variant => $name,)*
                }
            }
        }
    };
}

pub(crate) use counters;
