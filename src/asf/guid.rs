//! The identifiers of ASF objects and stream types, by name (ASF 10). Stored as a little-endian u32, u16, u16 and then
//! eight bytes in the order in which they are printed.

use std::fmt;

/// A GUID as it stands in a file.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// Header Object.
    pub const HEADER: Self = Self::new(0x75B2_2630, 0x668E, 0x11CF, 0xA6D9_00AA_0062_CE6C);
    /// Data Object.
    pub const DATA: Self = Self::new(0x75B2_2636, 0x668E, 0x11CF, 0xA6D9_00AA_0062_CE6C);
    /// Simple Index Object.
    pub const SIMPLE_INDEX: Self = Self::new(0x3300_0890, 0xE5B1, 0x11CF, 0x89F4_00A0_C903_49CB);
    /// Index Object.
    pub const INDEX: Self = Self::new(0xD6E2_29D3, 0x35DA, 0x11D1, 0x9034_00A0_C903_49BE);
    /// Media Object Index Object.
    pub const MEDIA_OBJECT_INDEX: Self = Self::new(0xFEB1_03F8, 0x12AD, 0x4C64, 0x840F_2A1D_2F7A_D48C);
    /// Timecode Index Object.
    pub const TIMECODE_INDEX: Self = Self::new(0x3CB7_3FD0, 0x0C4A, 0x4803, 0x953D_EDF7_B622_8F0C);
    /// File Properties Object.
    pub const FILE_PROPERTIES: Self = Self::new(0x8CAB_DCA1, 0xA947, 0x11CF, 0x8EE4_00C0_0C20_5365);
    /// Stream Properties Object.
    pub const STREAM_PROPERTIES: Self = Self::new(0xB7DC_0791, 0xA9B7, 0x11CF, 0x8EE6_00C0_0C20_5365);
    /// Header Extension Object.
    pub const HEADER_EXTENSION: Self = Self::new(0x5FBF_03B5, 0xA92E, 0x11CF, 0x8EE3_00C0_0C20_5365);
    /// Codec List Object.
    pub const CODEC_LIST: Self = Self::new(0x86D1_5240, 0x311D, 0x11D0, 0xA3A4_00A0_C903_48F6);
    /// Script Command Object.
    pub const SCRIPT_COMMAND: Self = Self::new(0x1EFB_1A30, 0x0B62, 0x11D0, 0xA39B_00A0_C903_48F6);
    /// Marker Object.
    pub const MARKER: Self = Self::new(0xF487_CD01, 0xA951, 0x11CF, 0x8EE6_00C0_0C20_5365);
    /// Bitrate Mutual Exclusion Object.
    pub const BITRATE_MUTUAL_EXCLUSION: Self = Self::new(0xD6E2_29DC, 0x35DA, 0x11D1, 0x9034_00A0_C903_49BE);
    /// Error Correction Object.
    pub const ERROR_CORRECTION: Self = Self::new(0x75B2_2635, 0x668E, 0x11CF, 0xA6D9_00AA_0062_CE6C);
    /// Content Description Object.
    pub const CONTENT_DESCRIPTION: Self = Self::new(0x75B2_2633, 0x668E, 0x11CF, 0xA6D9_00AA_0062_CE6C);
    /// Extended Content Description Object.
    pub const EXTENDED_CONTENT_DESCRIPTION: Self = Self::new(0xD2D0_A440, 0xE307, 0x11D2, 0x97F0_00A0_C95E_A850);
    /// Content Branding Object.
    pub const CONTENT_BRANDING: Self = Self::new(0x2211_B3FA, 0xBD23, 0x11D2, 0xB4B7_00A0_C955_FC6E);
    /// Stream Bitrate Properties Object.
    pub const STREAM_BITRATE_PROPERTIES: Self = Self::new(0x7BF8_75CE, 0x468D, 0x11D1, 0x8D82_0060_97C9_A2B2);
    /// Content Encryption Object.
    pub const CONTENT_ENCRYPTION: Self = Self::new(0x2211_B3FB, 0xBD23, 0x11D2, 0xB4B7_00A0_C955_FC6E);
    /// Extended Content Encryption Object.
    pub const EXTENDED_CONTENT_ENCRYPTION: Self = Self::new(0x298A_E614, 0x2622, 0x4C17, 0xB935_DAE0_7EE9_289C);
    /// Digital Signature Object.
    pub const DIGITAL_SIGNATURE: Self = Self::new(0x2211_B3FC, 0xBD23, 0x11D2, 0xB4B7_00A0_C955_FC6E);
    /// Padding Object.
    pub const PADDING: Self = Self::new(0x1806_D474, 0xCADF, 0x4509, 0xA4BA_9AAB_CB96_AAE8);
    /// Extended Stream Properties Object, inside the Header Extension.
    pub const EXTENDED_STREAM_PROPERTIES: Self = Self::new(0x14E6_A5CB, 0xC672, 0x4332, 0x8399_A969_5206_5B5A);
    /// Advanced Mutual Exclusion Object, inside the Header Extension.
    pub const ADVANCED_MUTUAL_EXCLUSION: Self = Self::new(0xA086_49CF, 0x4775, 0x4670, 0x8A16_6E35_3575_66CD);
    /// Group Mutual Exclusion Object, inside the Header Extension.
    pub const GROUP_MUTUAL_EXCLUSION: Self = Self::new(0xD146_5A40, 0x5A79, 0x4338, 0xB71B_E36B_8FD6_C249);
    /// Stream Prioritization Object, inside the Header Extension.
    pub const STREAM_PRIORITIZATION: Self = Self::new(0xD4FE_D15B, 0x88D3, 0x454F, 0x81F0_ED5C_4599_9E24);
    /// Bandwidth Sharing Object, inside the Header Extension.
    pub const BANDWIDTH_SHARING: Self = Self::new(0xA696_09E6, 0x517B, 0x11D2, 0xB6AF_00C0_4FD9_08E9);
    /// Language List Object, inside the Header Extension.
    pub const LANGUAGE_LIST: Self = Self::new(0x7C43_46A9, 0xEFE0, 0x4BFC, 0xB229_393E_DE41_5C85);
    /// Metadata Object, inside the Header Extension.
    pub const METADATA: Self = Self::new(0xC5F8_CBEA, 0x5BAF, 0x4877, 0x8467_AA8C_44FA_4CCA);
    /// Metadata Library Object, inside the Header Extension.
    pub const METADATA_LIBRARY: Self = Self::new(0x4423_1C94, 0x9498, 0x49D1, 0xA141_1D13_4E45_7054);
    /// Index Parameters Object, inside the Header Extension.
    pub const INDEX_PARAMETERS: Self = Self::new(0xD6E2_29DF, 0x35DA, 0x11D1, 0x9034_00A0_C903_49BE);
    /// Media Object Index Parameters Object, inside the Header Extension.
    pub const MEDIA_OBJECT_INDEX_PARAMETERS: Self = Self::new(0x6B20_3BAD, 0x3F11, 0x48E4, 0xACA8_D761_3DE2_CFA7);
    /// Timecode Index Parameters Object, inside the Header Extension.
    pub const TIMECODE_INDEX_PARAMETERS: Self = Self::new(0xF55E_496D, 0x9797, 0x4B5D, 0x8C8B_604D_FE9B_FB24);
    /// Advanced Content Encryption Object, inside the Header Extension.
    pub const ADVANCED_CONTENT_ENCRYPTION: Self = Self::new(0x4305_8533, 0x6981, 0x49E6, 0x9B74_AD12_CB86_D58C);
    /// Reserved 1, inside the Header Extension.
    pub const RESERVED_1: Self = Self::new(0xABD3_D211, 0xA9BA, 0x11CF, 0x8EE6_00C0_0C20_5365);
    /// Stream type Audio.
    pub const AUDIO_MEDIA: Self = Self::new(0xF869_9E40, 0x5B4D, 0x11CF, 0xA8FD_0080_5F5C_442B);
    /// Stream type Video.
    pub const VIDEO_MEDIA: Self = Self::new(0xBC19_EFC0, 0x5B4D, 0x11CF, 0xA8FD_0080_5F5C_442B);
    /// Stream type Command (script).
    pub const COMMAND_MEDIA: Self = Self::new(0x59DA_CFC0, 0x59E6, 0x11D0, 0xA3AC_00A0_C903_48F6);
    /// Stream type JFIF.
    pub const JFIF_MEDIA: Self = Self::new(0xB61B_E100, 0x5B4E, 0x11CF, 0xA8FD_0080_5F5C_442B);
    /// Stream type Degradable JPEG.
    pub const DEGRADABLE_JPEG_MEDIA: Self = Self::new(0x3590_7DE0, 0xE415, 0x11CF, 0xA917_0080_5F5C_442B);
    /// Stream type File Transfer.
    pub const FILE_TRANSFER_MEDIA: Self = Self::new(0x91BD_222C, 0xF21C, 0x497A, 0x8B6D_5AA8_6BFC_0185);
    /// Stream type Binary.
    pub const BINARY_MEDIA: Self = Self::new(0x3AFB_65E2, 0x47EF, 0x40F2, 0xAC2C_70A9_0D71_D343);
    /// No Error Correction.
    pub const NO_ERROR_CORRECTION: Self = Self::new(0x20FB_5700, 0x5B55, 0x11CF, 0xA8FD_0080_5F5C_442B);
    /// Audio Spread.
    pub const AUDIO_SPREAD: Self = Self::new(0xBFC3_CD50, 0x618F, 0x11CF, 0x8BB2_00AA_00B4_E220);
    /// Payload extension system Sample Duration.
    pub const SAMPLE_DURATION: Self = Self::new(0xC6BD_9450, 0x867F, 0x4907, 0x83A3_C779_21B7_33AD);
    /// Mutual exclusion by language.
    pub const MUTEX_LANGUAGE: Self = Self::new(0xD6E2_2A00, 0x35DA, 0x11D1, 0x9034_00A0_C903_49BE);
    /// Mutual exclusion by bitrate.
    pub const MUTEX_BITRATE: Self = Self::new(0xD6E2_2A01, 0x35DA, 0x11D1, 0x9034_00A0_C903_49BE);
    /// Mutual exclusion by unknown.
    pub const MUTEX_UNKNOWN: Self = Self::new(0xD6E2_2A02, 0x35DA, 0x11D1, 0x9034_00A0_C903_49BE);

    /// Takes the parts as the usual text form shows them, the last two as one number.
    pub const fn new(a: u32, b: u16, c: u16, d: u64) -> Self {
        let [a0, a1, a2, a3] = a.to_le_bytes();
        let [b0, b1] = b.to_le_bytes();
        let [c0, c1] = c.to_le_bytes();
        let [d0, d1, d2, d3, d4, d5, d6, d7] = d.to_be_bytes();
        Self([a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7])
    }
}

/// `75B22630-668E-11CF-A6D9-00AA0062CE6C`
impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, tail @ ..] = self.0;
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let b = u16::from_le_bytes([b0, b1]);
        let c = u16::from_le_bytes([c0, c1]);
        write!(f, "{a:08X}-{b:04X}-{c:04X}-{d0:02X}{d1:02X}-")?;
        tail.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_stored_little_endian_and_printed_as_usual() {
        assert_eq!(Guid::HEADER.0[..4], [0x30, 0x26, 0xB2, 0x75]);
        assert_eq!(Guid::HEADER.to_string(), "75B22630-668E-11CF-A6D9-00AA0062CE6C");
        assert_eq!(Guid::AUDIO_MEDIA.to_string(), "F8699E40-5B4D-11CF-A8FD-00805F5C442B");
    }
}
