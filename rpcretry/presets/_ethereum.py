"""Ethereum nodes and those who run them for others."""

from __future__ import annotations

from ..retry.backoff import ExponentialBackoff
from ..retry.jitter import AdditiveJitter
from ..retry.strategy import TRANSIENT_CODES
from ._methods import MethodList
from ._preset import Preset

__all__ = ["ethereum"]

METHODS = MethodList(
    {
        "eth_accounts",
        "eth_baseFee",
        "eth_blobBaseFee",
        "eth_blockNumber",
        "eth_call",
        "eth_callMany",
        "eth_chainId",
        "eth_coinbase",
        "eth_createAccessList",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_get*",
        "eth_hashrate",
        "eth_maxPriorityFeePerGas",
        "eth_mining",
        "eth_protocolVersion",
        "eth_simulateV1",
        "eth_syncing",
        "net_listening",
        "net_peerCount",
        "net_version",
        "web3_clientVersion",
        "web3_sha3",
        "rpc_modules",
        "trace_block",
        "trace_call",
        "trace_callMany",
        "trace_filter",
        "trace_get",
        "trace_rawTransaction",
        "trace_replayBlockTransactions",
        "trace_replayTransaction",
        "trace_transaction",
        "debug_getBadBlocks",
        "debug_getRaw*",
        "debug_storageRangeAt",
        "debug_trace*",
        "txpool_content",
        "txpool_contentFrom",
        "txpool_inspect",
        "txpool_status",
    },
    never={
        # It hands out what came since the last poll: the second answer lacks what the first one took along.
        "eth_getFilterChanges",
        # So do these on Filecoin's Lotus.
        "eth_getFilterLogs",
        # It asks a person.
        "eth_getEncryptionPublicKey",
        # It has the node make work for a miner.
        "eth_getWork",
        "eth_new*",
        "eth_send*",
        "eth_sign*",
        "eth_submit*",
        "eth_subscribe",
        "eth_uninstallFilter",
        "eth_unsubscribe",
        "admin_*",
        "engine_*",
        "miner_*",
        "personal_*",
        "wallet_*",
    },
)
"""The methods of Ethereum nodes that read, and those that are not repeated where they may have been executed. What is in neither is not
repeated there, either."""

ethereum = Preset(
    "ethereum",
    methods=METHODS,
    codes={*TRANSIENT_CODES, -32007},
    # After 1, 2, 4 and 8 s, each with up to 1 s more.
    backoff=ExponentialBackoff(attempts=4, base=1.0, factor=2.0, jitter=AdditiveJitter(1.0)),
    doc="""For Ethereum nodes: geth, Nethermind, Erigon, Besu, and the services that run them for others.

    * JSON-RPC codes by which the server says that it did not act, so every method goes again: -32005 ("limit exceeded": EIP-1474;
      Infura, "Avoid rate limiting"; Nethermind, ``ErrorCodes.cs``), 429 as a JSON-RPC code (QuickNode, "Ethereum Error Code Reference"; Alchemy
      over WebSockets, "Throughput"), and -32007 (QuickNode over its limit for a second, as viem's pull requests 5083 and 5084 report it).
    * HTTP 429, and 503 with Retry-After, a connection that was never made: every method goes again.
    * HTTP 408, 502, 503 and 504, a connection that broke, a timeout: methods that read go again. Their names are those of geth ("eth
      Namespace"), Nethermind ("txpool namespace") and Chainstack ("Ethereum methods", "Optimism methods", which has ``trace_*`` and ``debug_*``); that
      they only read is judged by what these pages say of them. ``eth_send*``, ``eth_sign*``, ``personal_*``, ``miner_*`` and ``admin_*`` do not.
      ``eth_getFilterChanges`` reads and forgets, ``eth_getFilterLogs`` does so on Filecoin's Lotus, ``eth_new*Filter`` creates, and
      ``eth_getEncryptionPublicKey`` asks a person, so none of these goes again. ``ethereum.extended(idempotent="eth_getFilterLogs")`` gives
      that one back to who has another node.
    * Four retries after 1, 2, 4 and 8 s, each with up to 1 s more: 15 to 19 s of waiting. The attempts come on top, each of up to 30 s by the
      client's default ``timeout``. The steps and the second are those of Alchemy, "How to Implement Retries"; four of them outlast
      the 10 s over which Alchemy counts ("Throughput"). Where the answer asks for more (Retry-After, or a number of seconds in the error's
      data), that counts, up to 60 s.

    Not retried, since they do not say that nothing was done: -32002 (EIP-1474: resource unavailable; Besu: an invalid signature), -32603, and
    -32016, which is a timeout of Nethermind and a rate limit of Optimism's proxyd. proxyd sends HTTP 429 with it, which is retried;
    ``ethereum.extended(codes=-32016)`` helps who knows that there is such a proxy and gets the code without that status.

    -32005 also answers a query for too many blocks or results (Infura, ``eth_getLogs``), which no repetition mends. Besu (``RpcErrorType.java``)
    has it for more gas than a block holds, too many blocks and a batch that is too large, and -32007 for a sender without permission. Nothing is done
    twice then, but 15 to 19 s pass before the error shows. For a Besu of your own: ``ethereum.extended(fatal={-32005, -32007})``.
    """,
)
