use super::*;
use offshoot_format::encode_frame;

const EPOCH: [u8; 16] = [7; 16];
/// The LSN at which the images were captured.
const CAPTURE: u64 = 10;
const PAGE: MdPageIdx = MdPageIdx(5);

/// A ring in which a checkpoint of two image frames was sealed, with image frames of these indexes; each holds an image
/// of the md page of its number.
fn ring_with(indexes: &[u32]) -> (Vec<u8>, NativeHeader) {
    let mut ring = Vec::new();
    let mut append = |header: FrameHeader, payload: &[u8]| {
        let header = FrameHeader { epoch: EPOCH, position: ring.len() as u64, ..header };
        ring.extend(encode_frame(&header, payload, 512));
    };
    let mut lsn = CAPTURE;
    for index in indexes {
        lsn += 1;
        let images = Vec::from([(MdPageIdx(PAGE.0 + index), [1; 4096])]);
        let header = FrameHeader {
            lsn,
            kind: FrameKind::Images,
            capture: CAPTURE,
            image_index: *index,
            ..FrameHeader::default()
        };
        append(header, &ImageSet { images, zeroed: Vec::new() }.encode());
    }
    let sealed = FrameHeader {
        lsn: lsn + 1,
        covered: lsn,
        checkpoint: CAPTURE,
        image_frames: 2,
        tail: CAPTURE + 1,
        ..FrameHeader::default()
    };
    append(sealed, &[]);
    let header = NativeHeader {
        base_version: 3,
        flags: NativeFlags::default(),
        epoch: EPOCH,
        start_lsn: 1,
        journal: None,
        sequence: 1,
        mask_crcs: [0; 3],
        session: None,
        previous: None,
    };
    (ring, header)
}

#[test]
fn every_image_frame_of_a_sealed_checkpoint_must_be_there() {
    let pages = |count: u32| (0..count).map(|index| MdPageIdx(PAGE.0 + index)).collect::<Vec<_>>();
    for (indexes, found) in [
        (&[0, 1][..], Some(pages(2))),
        (&[1, 0], Some(pages(2))),
        (&[0, 1, 1], Some(pages(2))),
        (&[0, 1, 2], Some(pages(2))),
        (&[0], None),
        (&[0, 0], None),
        (&[1, 1, 1], None),
        (&[0, 2], None),
    ] {
        let (ring, header) = ring_with(indexes);
        let replay = read_ring(&ring, &header, None, Rules::default());
        match found {
            Some(pages) => {
                assert_eq!(replay.damage, None, "{indexes:?}");
                assert_eq!(replay.images.keys().copied().collect::<Vec<_>>(), pages, "{indexes:?}");
            }
            None => assert_eq!(replay.damage, Some(JournalDamage { lsn: CAPTURE }), "{indexes:?}"),
        }
    }
}
