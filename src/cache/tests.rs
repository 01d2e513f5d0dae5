//! What the cache promises as a whole: nothing that was sealed is lost or changed, and a disk that fails harms no viewer.

use std::fs;
use std::sync::{Arc, Barrier};
use std::thread;

use super::disk::Slot;
use super::film::{Film, Home, KEY, LIMIT, on_disk, play, read, reader, until};
use super::{Cache, Taken, summary};
use crate::asf::{PacketNumber, fidelity};
use crate::session::archive::{Access, Archive};

/// 64 packets a file, 4 a block.
const LARGE: u32 = 60_000;

fn seal(cache: &Cache, entry: &Arc<super::Entry>, all: bool) {
    cache.seal(entry, all);
    cache.flush();
}

fn numbers(packets: &[Arc<crate::session::Packet>]) -> Vec<u64> {
    packets.iter().map(|packet| packet.number.0).collect()
}

#[test]
fn what_came_whole_is_kept_byte_for_byte_and_what_came_stripped_in_the_one_form() {
    let (home, film) = (Home::new(), Film::new(8000, 700));
    let cache = home.open();
    let entry = cache.create(KEY, &film.opened, 1).unwrap();
    for number in (0..700).filter(|number| ![3, 4, 650].contains(number)) {
        let packet = if number % 3 == 0 { film.whole(number) } else { film.stripped(number) };
        assert_eq!(entry.take(&packet, LIMIT), Taken::New);
    }
    for absent in [3..5, 650..651] {
        entry.skipped(absent.clone(), 1);
        assert!(entry.skipped(absent, 2));
    }
    assert!(entry.ended(700, 0));
    seal(&cache, &entry, true);
    let counts = entry.counts();
    drop((entry, cache));

    let cache = home.open();
    let entry = cache.find(KEY).unwrap().unwrap();
    assert!(entry.is_complete());
    assert_eq!(counts, (697, 3));
    for number in 0..700 {
        let kept = on_disk(&entry, number);
        match number {
            3 | 4 | 650 => assert_eq!(kept, Slot::Absent),
            _ if number % 3 == 0 => assert_eq!(kept, Slot::Present(film.packets[number as usize].clone())),
            _ => assert_eq!(kept, Slot::Present(film.restored(number))),
        }
        if let Some(kept) = kept.packet() {
            assert_eq!(fidelity::digest(kept), fidelity::digest(&film.packets[number as usize]));
        }
    }
    let played = play(&cache, &entry, 0);
    assert_eq!(numbers(&played), (0..700).filter(|number| ![3, 4, 650].contains(number)).collect::<Vec<_>>());
    assert!(played.iter().all(|packet| film.is_at(packet.number.0, packet)));
    assert_eq!(home.said.errors(), [""; 0]);
}

#[test]
fn a_segment_that_is_sealed_in_parts_becomes_whole() {
    let (home, film) = (Home::new(), Film::new(LARGE, 200));
    let cache = home.open();
    let entry = cache.create(KEY, &film.opened, 1).unwrap();
    // The seek of a viewer, what it left out, and what lay between them.
    for (part, file) in [(80..90, ".some"), (64..70, ".some"), (100..128, ".some"), (70..80, ".some")] {
        film.fill(&entry, part);
        seal(&cache, &entry, false);
        assert_eq!(home.files(".seg").len(), 0);
        seal(&cache, &entry, true);
        assert!(home.file(file).ends_with("000001.some"));
        assert!(entry.unsealed(true).is_empty());
    }
    assert_eq!((entry.gap(PacketNumber(64)), entry.counts()), (Some(90..100), (54, 0)));
    film.fill(&entry, 90..100);
    seal(&cache, &entry, false);
    assert!(home.file(".seg").ends_with("000001.seg"));
    assert_eq!(home.files(".some").len(), 0);
    for number in 64..128 {
        assert_eq!(on_disk(&entry, number), Slot::Present(film.restored(number)));
    }
    assert_eq!(cache.bytes(), fs::metadata(home.file(".seg")).unwrap().len());
}

#[test]
fn what_is_sealed_in_part_is_found_again_and_nothing_else() {
    let (home, film) = (Home::new(), Film::new(LARGE, 200));
    let cache = home.open();
    let entry = cache.create(KEY, &film.opened, 1).unwrap();
    film.fill(&entry, (0..64).chain(130..140));
    seal(&cache, &entry, true);
    // Of these no disk has anything.
    film.fill(&entry, (64..70).chain(140..150));
    drop((entry, cache));

    let cache = home.open();
    let entry = cache.find(KEY).unwrap().unwrap();
    assert_eq!((entry.files(), entry.counts(), entry.end()), (vec![0, 2], (74, 0), None));
    let gaps = [0, 130].map(|from| entry.gap(PacketNumber(from)));
    assert_eq!(gaps, [Some(64..130), Some(140..u64::MAX)]);
    let (mut reader, want) = reader(&cache, &entry);
    assert!(matches!(read(&mut reader, &want, 139), Access::There(packet) if film.is_at(139, &packet)));
    assert_eq!(read(&mut reader, &want, 140), Access::NotYet);
    assert_eq!(want.number(), Some(PacketNumber(140)));
}

#[test]
fn what_comes_while_a_file_is_written_is_in_the_next() {
    let (home, film) = (Home::new(), Film::new(LARGE, 128));
    let cache = home.open();
    let entry = cache.create(KEY, &film.opened, 1).unwrap();
    for number in 0..128 {
        film.fill(&entry, [number]);
        // Not waited for: some are written with what came since, some after it.
        cache.seal(&entry, number % 2 == 0);
    }
    assert!(entry.ended(128, 0));
    seal(&cache, &entry, true);
    assert_eq!((home.files(".seg").len(), home.files(".some").len(), entry.counts()), (2, 0, (128, 0)));
    for number in 0..128 {
        assert_eq!(on_disk(&entry, number), Slot::Present(film.restored(number)));
    }
}

#[test]
fn what_was_sealed_stays_in_memory_for_those_who_are_on_their_way_to_it() {
    let (home, film) = (Home::new(), Film::new(LARGE, 64));
    let cache = home.open();
    for (place, first_block) in [(None, None), (Some(0), Some(0)), (Some(21), Some(5)), (Some(63), Some(15))] {
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        film.fill(&entry, 0..64);
        let mut reader = reader(&cache, &entry).0;
        let found = place.map(|number| reader.packet(PacketNumber(number)));
        assert!(found.is_none_or(|found| matches!(found, Access::There(_))));
        seal(&cache, &entry, false);
        let is_in_memory = |block: &u32| cache.blocks().get(&entry, 0, *block, &Arc::default()).is_some();
        assert_eq!((0..16).find(is_in_memory), first_block, "{place:?}");
        assert!((first_block.unwrap_or(16)..16).all(|block| is_in_memory(&block)));
    }
}

#[test]
fn the_times_beside_a_file_are_those_of_all_that_is_in_it() {
    for film in [Film::new(LARGE, 128), Film::without_video(LARGE, 128)] {
        for parts in [&[(0, 64)][..], &[(40, 64), (0, 40)], &[(0, 7), (50, 64), (7, 50)]] {
            let home = Home::new();
            let cache = home.open();
            let entry = cache.create(KEY, &film.opened, 1).unwrap();
            for &(from, to) in parts {
                film.fill(&entry, from..to);
                seal(&cache, &entry, true);
            }
            let header = entry.dir().read_header(0).unwrap();
            let restored: Vec<_> = (0..64).map(|number| Slot::Present(film.restored(number))).collect();
            assert_eq!(header.summary()[..], summary::of(&film.opened.header, 0, &restored).encode());
        }
    }
}

#[test]
fn a_reader_at_the_head_gets_each_packet_once_and_in_order_whatever_is_sealed_meanwhile() {
    let (home, film) = (Home::new(), Film::new(LARGE, 300));
    let cache = home.open();
    let entry = cache.create(KEY, &film.opened, 1).unwrap();
    thread::scope(|scope| {
        let readers = [0, 0, 130].map(|from| {
            let (cache, entry) = (&cache, &entry);
            scope.spawn(move || (from, play(cache, entry, from)))
        });
        // Backwards within each ten, so that a reader meets gaps as well.
        for ten in 0..30 {
            film.fill(&entry, (ten * 10..ten * 10 + 10).rev());
            cache.seal(&entry, ten % 3 == 0);
        }
        assert!(entry.ended(300, 0));
        seal(&cache, &entry, true);
        for reader in readers {
            let (from, played) = reader.join().unwrap();
            assert_eq!(numbers(&played), (from..300).collect::<Vec<_>>());
            assert!(played.iter().all(|packet| film.is_at(packet.number.0, packet)));
        }
    });
    assert_eq!(home.said.errors(), [""; 0]);
}

#[test]
fn a_write_that_fails_gives_up_the_entry_and_nothing_that_was_sealed() {
    let (home, film) = (Home::new(), Film::new(LARGE, 192));
    let cache = home.open();
    let entry = cache.create(KEY, &film.opened, 1).unwrap();
    film.fill(&entry, 0..64);
    seal(&cache, &entry, false);
    // No file takes the place of a directory.
    let in_the_way = home.file(".seg").with_file_name("000001.seg");
    fs::create_dir(in_the_way).unwrap();
    let before = cache.held();
    film.fill(&entry, 64..130);
    assert!(cache.held() > before);
    seal(&cache, &entry, false);

    assert_eq!(home.said.errors(), ["io"]);
    assert!(entry.marks().gave_up);
    assert_eq!((cache.held(), entry.unsealed(true)), (before, vec![]));
    assert_eq!((entry.counts(), entry.gap(PacketNumber(0))), ((64, 0), Some(64..u64::MAX)));
    assert_eq!(home.files(".tmp").len(), 0);
    let (mut reader, want) = reader(&cache, &entry);
    for number in 0..64 {
        assert!(matches!(read(&mut reader, &want, number), Access::There(packet) if film.is_at(number, &packet)));
    }
    assert_eq!(read(&mut reader, &want, 64), Access::NotYet);
}

#[test]
fn a_directory_that_is_gone_gives_up_the_entry() {
    let (home, film) = (Home::new(), Film::new(LARGE, 64));
    let cache = home.open();
    let entry = cache.create(KEY, &film.opened, 1).unwrap();
    film.fill(&entry, 0..64);
    let dir = home.file("meta").parent().unwrap().to_owned();
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "").unwrap();
    seal(&cache, &entry, false);
    assert_eq!((home.said.errors(), entry.marks().gave_up, cache.held()), (vec!["io"], true, 0));
    assert_eq!((entry.counts(), cache.bytes()), ((0, 0), 0));
}

#[test]
fn the_last_file_is_not_written_where_the_end_can_not_be() {
    let (home, film) = (Home::new(), Film::new(LARGE, 70));
    let cache = home.open();
    let entry = cache.create(KEY, &film.opened, 1).unwrap();
    film.fill(&entry, 64..70);
    assert!(entry.ended(70, 0));
    let meta = home.file("meta");
    fs::remove_file(&meta).unwrap();
    fs::create_dir(&meta).unwrap();
    seal(&cache, &entry, true);
    assert_eq!((home.said.errors(), entry.marks().gave_up), (vec!["io"], true));
    assert_eq!(home.files(".seg").len(), 0);
}

#[test]
fn a_damaged_file_is_dropped_once_for_a_hundred_readers_and_no_wrong_byte_is_read() {
    let (home, film) = (Home::new(), Film::new(LARGE, 128));
    drop(film.store(&home.open(), KEY, 1));
    home.damage("000001.seg");
    let cache = home.open();
    let entry = cache.find(KEY).unwrap().unwrap();
    assert!(entry.is_complete());
    let size = fs::metadata(home.file("000000.seg")).unwrap().len();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    let (mut reader, want) = reader(&cache, &entry);
                    // The last block has it. What lies before that may have been read in time.
                    read(&mut reader, &want, 127)
                })
            })
            .collect();
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() == Access::NotYet));
    });
    assert_eq!(home.said.errors(), ["checksum"]);
    assert_eq!((entry.files(), entry.gap(PacketNumber(0)), cache.bytes()), (vec![0], Some(64..u64::MAX), size));
    assert_eq!(home.files("000001.seg").len(), 0);

    film.fill(&entry, 64..128);
    seal(&cache, &entry, true);
    assert_eq!(numbers(&play(&cache, &entry, 0)), (0..128).collect::<Vec<_>>());
    assert_eq!(home.said.errors(), ["checksum"]);
}

#[test]
fn damage_that_is_met_while_a_fuller_file_is_written_is_counted_and_asked_for_again() {
    let (home, film) = (Home::new(), Film::new(LARGE, 64));
    let cache = home.open();
    let entry = cache.create(KEY, &film.opened, 1).unwrap();
    film.fill(&entry, 0..8);
    seal(&cache, &entry, true);
    home.damage("000000.some");
    film.fill(&entry, 10..20);
    seal(&cache, &entry, true);
    // The last of two blocks has it.
    assert_eq!((entry.gap(PacketNumber(0)), entry.counts()), (Some(4..10), (14, 0)));
    assert_eq!(home.said.errors(), ["checksum"]);
    assert!(!entry.marks().gave_up);
}

#[test]
fn a_file_that_is_gone_is_asked_for_again() {
    let (home, film) = (Home::new(), Film::new(LARGE, 128));
    drop(film.store(&home.open(), KEY, 1));
    let cache = home.open();
    let entry = cache.find(KEY).unwrap().unwrap();
    fs::remove_file(home.file("000000.seg")).unwrap();
    let (mut reader, want) = reader(&cache, &entry);
    assert_eq!(read(&mut reader, &want, 5), Access::NotYet);
    assert_eq!((home.said.errors(), entry.files()), (vec!["io"], vec![1]));
}

#[test]
fn readers_get_on_where_memory_has_room_for_less_than_a_block() {
    let (mut home, film) = (Home::new(), Film::new(LARGE, 128));
    home.settings.blocks = 100;
    let cache = home.open();
    let entry = film.store(&cache, KEY, 1);
    thread::scope(|scope| {
        let readers = [0, 1, 64, 100].map(|from| {
            let (cache, entry) = (&cache, &entry);
            scope.spawn(move || numbers(&play(cache, entry, from)) == (from..128).collect::<Vec<_>>())
        });
        assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
    });
}

#[test]
fn what_is_not_written_yet_is_counted_until_it_is_written_or_let_go() {
    let film = Film::new(LARGE, 192);
    type Way = fn(&Arc<Cache>, Arc<super::Entry>);
    let ways: [(&str, Way); 4] = [
        ("sealed", |cache, entry| seal(cache, &entry, true)),
        ("dropped", |cache, entry| cache.retire(&entry)),
        ("purged", |cache, _| assert_eq!(cache.purge(|_| true), 1)),
        ("replaced", |cache, entry| drop(cache.create(KEY, entry.opened(), 2).unwrap())),
    ];
    for (name, way) in ways {
        let home = Home::new();
        let cache = home.open();
        let entry = cache.create(KEY, &film.opened, 1).unwrap();
        film.fill(&entry, (0..70).chain(130..140));
        assert_eq!(entry.take(&film.whole(150), LIMIT), Taken::New);
        let bytes = (0..70).chain(130..140).map(|number| film.stripped(number).bytes.len() as u64).sum::<u64>();
        assert_eq!(cache.held(), bytes + u64::from(LARGE), "{name}");
        assert_eq!(entry.take(&film.whole(151), bytes + 2 * u64::from(LARGE) - 1), Taken::NoRoom);
        way(&cache, entry);
        // The writer may have it in its hands until it is asked twice.
        until(|| {
            cache.flush();
            (cache.held() == cache.blocks().bytes()).then_some(())
        });
        assert_eq!(home.said.errors(), [""; 0], "{name}");
    }
}

#[test]
fn a_hundred_readers_at_once_share_what_is_read_once() {
    let (home, film) = (Home::new(), Film::new(8000, 64));
    drop(film.store(&home.open(), KEY, 1));
    let cache = home.open();
    let entry = cache.find(KEY).unwrap().unwrap();
    let together = Barrier::new(100);
    let played: Vec<_> = thread::scope(|scope| {
        let play = || {
            together.wait();
            play(&cache, &entry, 0)
        };
        let readers: Vec<_> = (0..100).map(|_| scope.spawn(play)).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    for others in &played {
        assert_eq!(numbers(others), (0..64).collect::<Vec<_>>());
        // Read twice, there would be two of them.
        assert!(others.iter().zip(&played[0]).all(|(other, one)| Arc::ptr_eq(other, one)));
    }
}
