//! What must hold whatever the network does.

use super::*;
use crate::asf::PacketNumber;

/// Packets of one entry: 12 seconds.
const PACKETS: u64 = 600;
const LONG: Duration = Duration::from_secs(60);

fn whole(packets: std::ops::Range<u64>) -> impl Iterator<Item = Told> {
    packets.map(|number| Told::Packet(number, true))
}

#[test]
fn with_5_percent_lost_each_way_every_packet_arrives_as_it_was_and_in_order() {
    let expected: Vec<Told> = [Told::Playing].into_iter().chain(whole(0..PACKETS)).chain([Told::Complete]).collect();
    let mut total = Losses::default();
    for (seed, percent) in (0..40).map(|seed| (seed, if seed % 2 == 0 { 1 } else { 5 })) {
        let mut world = World::new(seed, percent, film(&[PACKETS]));
        world.run(LONG).unwrap();
        assert!(world.told == expected, "seed {seed}: {:?} and {} packets", world.losses(), world.told.len());
        total = total.and(world.losses());
    }
    assert!(total.lost == 0 && total.recovered > 40 * PACKETS / 50, "{total:?}");
}

#[test]
fn a_network_without_faults_needs_no_resend() {
    let mut world = World::new(0, 0, film(&[PACKETS]));
    world.run(LONG).unwrap();
    assert_eq!(world.told.len() as u64, PACKETS + 2);
    assert_eq!(world.losses(), Losses::default());
    assert_eq!(world.client.dropped(), 0);
}

#[test]
fn with_20_percent_lost_each_way_what_stays_lost_is_said_in_its_place() {
    let mut total = Losses::default();
    for seed in 0..40 {
        let mut world = World::new(seed, 20, film(&[PACKETS]));
        world.run(LONG).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let told = &world.told;
        assert_eq!((told.first(), told.last()), (Some(&Told::Playing), Some(&Told::Complete)), "seed {seed}");
        let (mut next, mut lost) = (0, 0);
        for told in &told[1..told.len() - 1] {
            match *told {
                Told::Lost(packets) => (next, lost) = (next + packets, lost + packets),
                Told::Packet(number, is_whole) => {
                    assert!(is_whole && number == next, "seed {seed}: packet {number} where {next} is due");
                    next += 1;
                }
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        assert_eq!(lost, world.losses().lost);
        // Of the last ones nobody can know.
        assert!(next + 3 >= PACKETS, "seed {seed}: {next} packets");
        total = total.and(world.losses());
    }
    assert!(total.recovered > 40 * PACKETS / 10 && total.lost < total.recovered / 20, "{total:?}");
}

#[test]
fn entries_follow_one_another_whole_but_for_what_nobody_knows_of() {
    let mut cut_short = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, 5, film(&[100, 150, 300]));
        world.run(LONG).unwrap();
        let told = world.told.strip_prefix(&[Told::Playing]).and_then(|told| told.strip_suffix(&[Told::Complete]));
        let entries: Vec<&[Told]> = told.unwrap().split(|told| *told == Told::Changed).collect();
        assert_eq!(entries.len(), 3);
        for (entry, packets) in entries.iter().zip([100, 150, 300]) {
            let came = entry.len() as u64;
            assert!(entry.iter().copied().eq(whole(0..came)), "seed {seed}: {:?}", world.losses());
            // The last ones of an entry: nothing that comes later tells that they were sent.
            assert!(came + 3 >= packets, "seed {seed}: {came} of {packets}");
            cut_short += packets - came;
        }
    }
    assert!(cut_short < 10, "{cut_short} packets");
}

#[test]
fn a_play_that_moves_loses_nothing_of_where_it_goes() {
    for seed in 0..20 {
        let mut world = World::new(seed, 5, film(&[PACKETS]));
        for move_to in [300, 17, 450] {
            world.run(Duration::from_secs(3)).unwrap();
            let from = Position::Packet(PacketNumber(move_to));
            world.asks(Request::Play(Play::from(from)));
            // What comes after the wish is of the play before, up to the next one.
            world.run(Duration::from_millis(100)).unwrap();
        }
        world.run(LONG).unwrap();
        let plays: Vec<&[Told]> = world.told.split(|told| *told == Told::Playing).skip(1).collect();
        assert_eq!(plays.len(), 4);
        for (play, from) in plays.iter().zip([0, 300, 17, 450]) {
            let packets = play.strip_suffix(&[Told::Complete]).unwrap_or(play);
            assert!(packets.iter().copied().eq(whole(from..from + packets.len() as u64)), "seed {seed}: {play:?}");
            assert!(play.len() > 50);
        }
        assert_eq!(plays[3].len() as u64, PACKETS - 450 + 1);
    }
}

#[test]
fn a_network_that_lets_no_datagram_pass_is_found_out_at_the_header() {
    let mut world = World::new(0, 100, film(&[PACKETS]));
    assert_eq!(world.run(LONG), Err(ClientError::NoDatagrams));
    assert!(world.told.is_empty());
}

#[test]
fn equal_seeds_give_equal_plays() {
    let play = || {
        let mut world = World::new(7, 20, film(&[PACKETS]));
        world.run(LONG).unwrap();
        (world.told, world.client.losses(), world.now - world.start)
    };
    assert_eq!(play(), play());
}
