//! Both roles of `[MS-MMSP]`: [`server`] toward viewers, [`client`] toward origins. Only here does a packet number become
//! a LocationId, a reason an HRESULT, and a place in content three fields of StartPlaying.

pub mod client;
mod player;
pub mod server;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;

use std::time::Duration;

use super::{Position, Reason, Refusal};
use crate::asf::PacketNumber;
use crate::wire::mmsp::ids::HResult;

/// DBL_MAX in `position` says that the field is unused; anything near it says so too.
const UNUSED_POSITION: f64 = 1e300;
/// In `asfOffset` and `locationId` two values say that the field is unused, 2.2.4.25.
const UNUSED_FIELD: u32 = 0xFFFF_FFFF;

/// What a player is told for a refusal: the origin's own code where there is one, `[MS-MMSP]` leaves the choice free.
pub fn hresult(refusal: &Refusal) -> HResult {
    if let Some(code) = refusal.origin_code.map(HResult).filter(|code| code.is_failure()) {
        return code;
    }
    match refusal.reason {
        Reason::Denied | Reason::Forbidden | Reason::Loop => HResult::E_ACCESSDENIED,
        Reason::InvalidName => HResult::NS_E_INVALID_NAME,
        Reason::NotFound => HResult::NS_E_FILE_NOT_FOUND,
        Reason::UnknownHost => HResult::NS_E_SERVER_NOT_FOUND,
        Reason::Unreachable => HResult::NS_E_CANNOTCONNECT,
        Reason::Timeout => HResult::NS_E_TIMEOUT,
        Reason::Lost => HResult::NS_E_CONNECTION_FAILURE,
        Reason::Protocol => HResult::NS_E_BAD_CONTROL_DATA,
        Reason::BadContent => HResult::NS_E_INVALID_DATA,
        Reason::Busy => HResult::NS_E_TOO_MANY_SESS,
        Reason::Invalid => HResult::NS_E_INVALID_REQUEST,
        Reason::TooSlow => HResult::NS_E_INSUFFICIENT_BANDWIDTH,
        Reason::Draining | Reason::Kicked => HResult::NS_E_NOCONNECTION,
        Reason::Origin | Reason::Internal => HResult::NS_E_INTERNAL,
    }
}

/// The three fields of StartPlaying and StartStriding that name a place, 2.2.4.25.
#[derive(Clone, Copy, Debug, PartialEq)]
struct PositionFields {
    position: f64,
    asf_offset: u32,
    location_id: u32,
}

impl PositionFields {
    /// Reads them. Only one is meaningful, but real players fill several: a time other than 0 wins, then the packet,
    /// then the byte, for libmms names a packet beside position 0. A NaN or an infinite time is none.
    fn meaning(self) -> Position {
        let used = |field: u32| (field != 0 && field != UNUSED_FIELD).then_some(field);
        let time = (self.position.is_finite() && self.position < UNUSED_POSITION).then_some(self.position.max(0.0));
        match (time, used(self.location_id), used(self.asf_offset)) {
            (Some(seconds), _, _) if seconds > 0.0 => Position::Time(duration(seconds)),
            (_, Some(packet), _) => Position::Packet(PacketNumber(u64::from(packet))),
            (_, None, Some(byte)) => Position::Byte(u64::from(byte)),
            (Some(_), None, None) => Position::Time(Duration::ZERO),
            (None, None, None) => Position::Default,
        }
    }

    /// Writes one. Packet 0 and byte 0 can't be said (0 means unused), so they become the time 0.
    fn naming(place: Position) -> Self {
        let unused = Self { position: f64::MAX, asf_offset: UNUSED_FIELD, location_id: UNUSED_FIELD };
        let used = |n: u64| u32::try_from(n).ok().filter(|n| *n != 0 && *n != UNUSED_FIELD);
        match place {
            Position::Time(time) => Self { position: time.as_secs_f64(), ..unused },
            Position::Packet(PacketNumber(n)) => match used(n) {
                Some(location_id) => Self { location_id, ..unused },
                None => Self { position: 0.0, ..unused },
            },
            Position::Byte(n) => match used(n) {
                Some(asf_offset) => Self { asf_offset, ..unused },
                None => Self { position: 0.0, ..unused },
            },
            // Unused in all three is ambiguous, the time 0 is what every player sends.
            Position::Default => Self { position: 0.0, ..unused },
        }
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(position: f64, asf_offset: u32, location_id: u32) -> Position {
        PositionFields { position, asf_offset, location_id }.meaning()
    }

    #[test]
    fn each_way_to_name_a_place_is_understood() {
        const NO: u32 = UNUSED_FIELD;
        assert_eq!(fields(0.0, NO, NO), Position::Time(Duration::ZERO));
        assert_eq!(fields(6.5, NO, NO), Position::Time(Duration::from_millis(6500)));
        assert_eq!(fields(6.5, 7, 9), Position::Time(Duration::from_millis(6500)));
        assert_eq!(fields(0.0, NO, 20), Position::Packet(PacketNumber(20)));
        assert_eq!(fields(f64::MAX, 0, 20), Position::Packet(PacketNumber(20)));
        assert_eq!(fields(f64::MAX, 4009, 0), Position::Byte(4009));
        assert_eq!(fields(f64::MAX, 0, NO), Position::Default);
        assert_eq!(fields(f64::NAN, NO, NO), Position::Default);
        assert_eq!(fields(f64::INFINITY, NO, NO), Position::Default);
        assert_eq!(fields(-3.0, NO, NO), Position::Time(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn what_we_name_is_what_a_server_understands(packet in 1u32..0xFFFF_FFFF, ms in 0u64..100_000_000) {
            for place in [
                Position::Packet(PacketNumber(u64::from(packet))),
                Position::Byte(u64::from(packet)),
                Position::Time(Duration::from_millis(ms)),
            ] {
                let meaning = PositionFields::naming(place).meaning();
                match (meaning, place) {
                    (Position::Time(a), Position::Time(b)) => prop_assert!(a.abs_diff(b) < Duration::from_micros(1)),
                    (a, b) => prop_assert_eq!(a, b),
                }
            }
        }

        #[test]
        fn any_fields_mean_something(position in any::<f64>(), asf_offset in any::<u32>(), location_id in any::<u32>()) {
            let _ = fields(position, asf_offset, location_id);
        }
    }
}
