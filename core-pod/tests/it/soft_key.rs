//! An authenticator in software: P-256 keys, authenticator data, attestation and assertions as a device makes them.
//!
//! It does what WebAuthn asks of a device with a screen lock (user present, user verified, discoverable), and on demand what
//! no honest device does.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const ATTESTED: u8 = 0x40;

/// A device with one key.
pub struct SoftKey {
    pair: EcdsaKeyPair,
    pub credential: Vec<u8>,
    pub user_handle: String,
    /// The page the browser shows.
    pub origin: String,
    /// What the device thinks the relying party is.
    pub rp_id: String,
    /// Signatures made; 0 for ever on devices that do not count.
    pub counter: u32,
    /// Whether the holder unlocks the device.
    pub verifies_user: bool,
}

impl SoftKey {
    /// A fresh device in front of our page.
    pub fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let credential = Sha256::digest(pair.public_key().as_ref()).to_vec();
        Self {
            pair,
            credential,
            user_handle: String::new(),
            origin: "http://localhost:5173".to_owned(),
            rp_id: "localhost".to_owned(),
            counter: 0,
            verifies_user: true,
        }
    }

    /// What `navigator.credentials.create` gives for these options.
    pub fn create(&mut self, options: &Value) -> Value {
        self.user_handle = options["user"]["id"].as_str().unwrap().to_owned();
        let client_data = self.client_data("webauthn.create", options["challenge"].as_str().unwrap());
        let mut data = self.authenticator_data(ATTESTED);
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&u16::try_from(self.credential.len()).unwrap().to_be_bytes());
        data.extend_from_slice(&self.credential);
        data.extend_from_slice(&self.cose_key());
        // {"fmt": "none", "attStmt": {}, "authData": data}
        let mut attestation = vec![0xa3];
        attestation.extend_from_slice(&text("fmt"));
        attestation.extend_from_slice(&text("none"));
        attestation.extend_from_slice(&text("attStmt"));
        attestation.push(0xa0);
        attestation.extend_from_slice(&text("authData"));
        attestation.extend_from_slice(&bytes(&data));
        json!({
            "id": B64.encode(&self.credential), "rawId": B64.encode(&self.credential), "type": "public-key",
            "response": {
                "attestationObject": B64.encode(&attestation), "clientDataJSON": B64.encode(client_data),
                "transports": ["internal"],
            },
            "clientExtensionResults": { "credProps": { "rk": true } },
        })
    }

    /// What `navigator.credentials.get` gives for these options.
    pub fn get(&mut self, options: &Value) -> Value {
        self.answer(options["challenge"].as_str().unwrap())
    }

    /// An assertion over any challenge.
    pub fn answer(&mut self, challenge: &str) -> Value {
        if self.counter > 0 {
            self.counter += 1;
        }
        let client_data = self.client_data("webauthn.get", challenge);
        let data = self.authenticator_data(0);
        let mut signed = data.clone();
        signed.extend_from_slice(&Sha256::digest(client_data.as_bytes()));
        let signature = self.pair.sign(&SystemRandom::new(), &signed).unwrap();
        json!({
            "id": B64.encode(&self.credential), "rawId": B64.encode(&self.credential), "type": "public-key",
            "response": {
                "authenticatorData": B64.encode(&data), "clientDataJSON": B64.encode(client_data),
                "signature": B64.encode(signature.as_ref()), "userHandle": self.user_handle,
            },
            "clientExtensionResults": {},
        })
    }

    fn client_data(&self, kind: &str, challenge: &str) -> String {
        json!({ "type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false }).to_string()
    }

    fn authenticator_data(&self, flags: u8) -> Vec<u8> {
        let verified = if self.verifies_user { USER_VERIFIED } else { 0 };
        let mut data = Sha256::digest(self.rp_id.as_bytes()).to_vec();
        data.push(flags | USER_PRESENT | verified);
        data.extend_from_slice(&self.counter.to_be_bytes());
        data
    }

    /// {1: 2 (EC2), 3: -7 (ES256), -1: 1 (P-256), -2: x, -3: y}
    fn cose_key(&self) -> Vec<u8> {
        let point = self.pair.public_key().as_ref();
        let mut key = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21];
        key.extend_from_slice(&bytes(&point[1..33]));
        key.push(0x22);
        key.extend_from_slice(&bytes(&point[33..65]));
        key
    }
}

/// A CBOR text of less than 24 bytes.
fn text(text: &str) -> Vec<u8> {
    let mut item = vec![0x60 | u8::try_from(text.len()).unwrap()];
    item.extend_from_slice(text.as_bytes());
    item
}

/// A CBOR byte string of 24 bytes up to 64 KiB.
fn bytes(bytes: &[u8]) -> Vec<u8> {
    let mut item = match u8::try_from(bytes.len()) {
        Ok(length) => vec![0x58, length],
        Err(_) => {
            let [high, low] = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            vec![0x59, high, low]
        }
    };
    item.extend_from_slice(bytes);
    item
}
