use request::Mac;

/// The frame that says where a guest is now: a reverse ARP request (RFC 903) to everybody, from
/// its address. For a guest that arrived by live migration and cannot announce itself.
pub fn rarp(mac: Mac) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[0..6].copy_from_slice(&Mac::BROADCAST.0);
    frame[6..12].copy_from_slice(&mac.0);
    // EtherType; hardware Ethernet, protocol IPv4, their lengths, operation 3 (request reverse).
    frame[12..22].copy_from_slice(&[0x80, 0x35, 0, 1, 0x08, 0x00, 6, 4, 0, 3]);
    frame[22..28].copy_from_slice(&mac.0);
    frame[32..38].copy_from_slice(&mac.0);
    frame
}
