"""Every low hash of one header: what a device must find in ranges too wide for hashlib to check.

The header is the genesis block's. A scan of all 2**32 nonces, once for each
version, found these and no others; `tests/test_selftest.py` hashes each again.
"""

HEADER = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000"
    "000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa"
    "4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
"""Block 0 of the main chain; 2083236893 is among the nonces of its version, 1."""

TARGET = (1 << 229) - 1
"""27 leading zero bits: one nonce in 134 million."""

NONCES: dict[int, tuple[int, ...]] = {
    0x00000001: (
        69415859, 199912463, 373031392, 558947276, 603693277, 711056034, 826775162, 864086902,
        1183568914, 1258113929, 1644202106, 1826585766, 1846290955, 2055319739, 2083236893,
        2439001006, 2639562699, 2821783394, 3047392055, 3134878429, 3197545707, 3843175396,
        3869707969, 3894166266, 4006228483, 4014782343, 4089863089,
    ),
}
"""Version -> nonces, ascending. The versions differ in bits that BIP 320 allows to roll."""
