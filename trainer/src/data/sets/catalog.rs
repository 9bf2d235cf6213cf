//! Where the official files are, and how to tell that one is whole.

use serde::Serialize;

use super::Set;

/// An official file of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RemoteFile {
    /// Its name.
    pub name: &'static str,
    /// The folder it is in.
    pub base: &'static str,
    /// The digest that its publishers and everybody's loaders check.
    pub md5: &'static str,
}

const CIFAR: &str = "https://www.cs.toronto.edu/~kriz";
const SVHN: &str = "http://ufldl.stanford.edu/housenumbers";
const STL: &str = "http://ai.stanford.edu/~acoates/stl10";

const TRAIN: RemoteFile = RemoteFile { name: "train_32x32.mat", base: SVHN, md5: "e26dedcc434d2e4c54c9b2d4a06d8373" };
const TEST: RemoteFile = RemoteFile { name: "test_32x32.mat", base: SVHN, md5: "eb5a983be6a315427106f1b164d9cef3" };
const EXTRA: RemoteFile = RemoteFile { name: "extra_32x32.mat", base: SVHN, md5: "a93ce644f1a588dc4d68dda5feec44a7" };

impl Set {
    /// Its official files; none for the digits.
    pub fn files(self) -> &'static [RemoteFile] {
        match self {
            Self::Cifar10 => {
                &[RemoteFile { name: "cifar-10-binary.tar.gz", base: CIFAR, md5: "c32a1d4ab5d03f1284b67883e8d87530" }]
            }
            Self::Cifar100 => {
                &[RemoteFile { name: "cifar-100-binary.tar.gz", base: CIFAR, md5: "03b5dce01913d631647c71ecec9e9cb8" }]
            }
            Self::Svhn => &[TRAIN, TEST],
            Self::SvhnExtra => &[TRAIN, TEST, EXTRA],
            Self::Stl10 => {
                &[RemoteFile { name: "stl10_binary.tar.gz", base: STL, md5: "91f7769df0f17e558f3565bffb0c7dfb" }]
            }
            Self::Digits => &[],
        }
    }
}
