"""Which methods each preset takes for safe to execute twice, and the lists that say so."""

from __future__ import annotations

import collections
import copy
import dataclasses
import pickle
import types
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Rig, fresh

from rpcretry import ConnectionLostError, Request, RetryStrategy, presets
from rpcretry.presets import MethodList
from rpcretry.testing import result


def words(text: str) -> list[str]:
    return text.split()


def may(preset: presets.Preset, method: str, params: Any = None) -> bool:
    """Asked as the idempotency layer asks."""
    return preset.is_idempotent(Request(method, params))


# --- ethereum ---

READS = words("""
eth_accounts eth_blobBaseFee eth_blockNumber eth_call eth_chainId eth_coinbase eth_createAccessList eth_estimateGas eth_feeHistory eth_gasPrice
eth_getBalance eth_getBlockByHash eth_getBlockByNumber eth_getBlockReceipts eth_getBlockTransactionCountByHash eth_getCode
eth_getLogs eth_getProof eth_getStorageAt eth_getTransactionByHash eth_getTransactionCount eth_getTransactionReceipt eth_getUncleCountByBlockNumber
eth_maxPriorityFeePerGas eth_simulateV1 eth_syncing net_version net_peerCount net_listening web3_clientVersion web3_sha3 rpc_modules
trace_block trace_call trace_callMany trace_filter trace_get trace_rawTransaction trace_replayTransaction trace_transaction
debug_traceTransaction debug_traceCall debug_traceBlockByNumber debug_getRawBlock
txpool_content txpool_status
""")

ACTS = words("""
eth_sendTransaction eth_sendRawTransaction eth_sendRawTransactionSync eth_sendBundle eth_sendUserOperation eth_sendPrivateTransaction eth_sign
eth_signTransaction eth_signTypedData eth_signTypedData_v4 eth_submitWork eth_submitHashrate eth_resend eth_newFilter eth_newBlockFilter
eth_newPendingTransactionFilter eth_uninstallFilter eth_getFilterChanges eth_getFilterLogs eth_getEncryptionPublicKey eth_getWork
eth_subscribe eth_unsubscribe personal_sendTransaction
personal_unlockAccount personal_newAccount personal_sign miner_start miner_stop miner_setGasPrice admin_addPeer admin_startHTTP engine_newPayloadV4
engine_forkchoiceUpdatedV3 debug_setHead debug_startCPUProfile debug_writeMemProfile txpool_clear wallet_addEthereumChain anvil_mine evm_increaseTime
hardhat_setBalance evm_snapshot net_addPeer net_ web3_ web3_setProvider trace_ trace_setHead no_such_method eth_ eth ETH_CALL eth_call2
""")


def test_the_list_of_ethereum_is_this_and_no_more() -> None:
    assert presets.ethereum.methods.names == set(
        words("""
        eth_accounts eth_baseFee eth_blobBaseFee eth_blockNumber eth_call eth_callMany eth_chainId eth_coinbase eth_createAccessList eth_estimateGas
        eth_feeHistory eth_gasPrice eth_get* eth_hashrate eth_maxPriorityFeePerGas eth_mining eth_protocolVersion eth_simulateV1 eth_syncing
        net_listening net_peerCount net_version web3_clientVersion web3_sha3 rpc_modules
        trace_block trace_call trace_callMany trace_filter trace_get trace_rawTransaction trace_replayBlockTransactions trace_replayTransaction
        trace_transaction debug_getBadBlocks debug_getRaw* debug_storageRangeAt debug_trace*
        txpool_content txpool_contentFrom txpool_inspect txpool_status
        """)
    )
    assert presets.ethereum.methods.never == set(
        words("""
        eth_getEncryptionPublicKey eth_getFilterChanges eth_getFilterLogs eth_getWork eth_new* eth_send* eth_sign* eth_submit* eth_subscribe
        eth_uninstallFilter eth_unsubscribe admin_* engine_* miner_* personal_* wallet_*
        """)
    )


def test_who_has_another_node_than_lotus_gets_the_logs_of_a_filter_back() -> None:
    mine = presets.ethereum.extended(idempotent="eth_getFilterLogs")
    assert may(mine, "eth_getFilterLogs")
    assert not may(mine, "eth_getFilterChanges")


@pytest.mark.parametrize("method", READS)
def test_what_reads_the_chain_goes_again(method: str) -> None:
    assert may(presets.ethereum, method)


@pytest.mark.parametrize("method", ACTS)
def test_what_acts_on_the_chain_or_the_node_does_not(method: str) -> None:
    assert not may(presets.ethereum, method)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["eth_send", "personal_", "eth_sign", "miner_", "admin_", "eth_new", "eth_submit"]),
    st.text(max_size=30),
    st.lists(st.integers(), max_size=2),
)
def test_nothing_that_begins_like_an_act_ever_goes_again(beginning: str, rest: str, params: list[int]) -> None:
    assert not may(presets.ethereum, beginning + rest, params)


# --- bitcoin ---

BITCOIN_ACTS = words("""
sendtoaddress sendmany send sendall sendrawtransaction sendmsgtopeer submitblock submitheader submitpackage getnewaddress getrawchangeaddress
getblockfrompeer createwallet createwalletdescriptor loadwallet unloadwallet backupwallet restorewallet encryptwallet walletpassphrase walletlock
walletpassphrasechange walletcreatefundedpsbt walletprocesspsbt fundrawtransaction signrawtransactionwithwallet signrawtransactionwithkey signmessage
signmessagewithprivkey importprivkey importaddress importdescriptors importmulti keypoolrefill lockunspent setlabel settxfee setwalletflag bumpfee
psbtbumpfee abandontransaction rescanblockchain generatetoaddress generateblock prioritisetransaction preciousblock invalidateblock reconsiderblock
pruneblockchain savemempool importmempool dumptxoutset loadtxoutset dumpprivkey dumpwallet addnode disconnectnode setban clearbanned setnetworkactive
stop ping logging scantxoutset waitfornewblock getblocktemplate migratewallet verifychain gettxoutsetinfo GETBLOCK getblock2 get
""")


BITCOIN_READS = words("""
getbestblockhash getblock getblockchaininfo getblockcount getblockfilter getblockhash getblockheader getblockstats getchainstates getchaintips
getchaintxstats getdeploymentinfo getdifficulty getmempoolancestors getmempooldescendants getmempoolentry getmempoolinfo getrawmempool gettxout
gettxoutproof gettxspendingprevout verifytxoutproof getmemoryinfo getrpcinfo help uptime getmininginfo getnetworkhashps getprioritisedtransactions
getaddednodeinfo getaddrmaninfo getconnectioncount getnettotals getnetworkinfo getnodeaddresses getpeerinfo listbanned analyzepsbt combinepsbt
combinerawtransaction createmultisig createpsbt createrawtransaction decodepsbt decoderawtransaction decodescript deriveaddresses estimaterawfee
estimatesmartfee getdescriptorinfo getindexinfo getrawtransaction getzmqnotifications testmempoolaccept validateaddress verifymessage
getaddressesbylabel getaddressinfo getbalance getbalances getreceivedbyaddress getreceivedbylabel gettransaction getunconfirmedbalance
getwalletinfo listaddressgroupings listdescriptors listlabels listlockunspent listreceivedbyaddress listreceivedbylabel listsinceblock
listtransactions listunspent listwalletdir listwallets
""")


def test_the_list_of_bitcoin_is_this_and_no_more() -> None:
    assert (presets.bitcoin.methods.names, presets.bitcoin.methods.never) == (set(BITCOIN_READS), frozenset())
    assert all(may(presets.bitcoin, method) for method in BITCOIN_READS)


@pytest.mark.parametrize("method", BITCOIN_ACTS)
def test_what_changes_the_node_or_the_wallet_does_not_go_again(method: str) -> None:
    assert not may(presets.bitcoin, method)


def test_what_is_too_dear_can_be_given_back() -> None:
    assert may(presets.bitcoin.extended(idempotent="gettxoutsetinfo"), "gettxoutsetinfo")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["send", "sign", "import", "wallet", "set", "generate", "submit", "dump"]), st.text(max_size=20))
def test_no_name_that_begins_like_an_act_is_in_the_list(beginning: str, rest: str) -> None:
    assert not may(presets.bitcoin, beginning + rest)


# --- odoo ---


def execute_kw(model: Any, method: Any, *args: Any) -> dict[str, Any]:
    return {"service": "object", "method": "execute_kw", "args": ["db", 2, "hunter2", model, method, *args]}


ODOO_READS = [
    execute_kw("res.partner", "search", [[["is_company", "=", True]]]),
    execute_kw("res.partner", "search_read", [[]], {"fields": ["name"]}),
    execute_kw("res.partner", "search_read"),
    execute_kw("res.partner", "read", [[7]]),
    execute_kw("res.partner", "search_count", [[]]),
    execute_kw("res.partner", "fields_get", []),
    execute_kw("account.move.line", "read_group", [[], ["balance"], ["partner_id"]]),
    execute_kw("res.partner", "name_search", ["Ada"]),
    execute_kw("res.partner", "check_access_rights", ["read"]),
    {"service": "object", "method": "execute", "args": ["db", 2, "hunter2", "res.partner", "read", [7], ["name"]]},
    {"service": "common", "method": "version", "args": []},
    {"service": "common", "method": "login", "args": ["db", "admin", "hunter2"]},
    {"service": "common", "method": "authenticate", "args": ["db", "admin", "hunter2", {}]},
    {"service": "common", "method": "version"},
]

ODOO_ACTS = [
    execute_kw("res.partner", "create", [{"name": "Ada"}]),
    execute_kw("res.partner", "write", [[7], {"name": "Ada"}]),
    execute_kw("res.partner", "unlink", [[7]]),
    execute_kw("res.partner", "copy", [7]),
    execute_kw("account.move", "action_post", [[7]]),
    execute_kw("sale.order", "search_and_confirm", [[]]),
    execute_kw("sale.order", "read_and_close", [[]]),
    execute_kw("res.partner", "name_create", ["Ada"]),
    execute_kw("res.partner", "default_get", [["name"]]),
    execute_kw("res.partner", "message_post", [[7]]),
    {"service": "object", "method": "execute", "args": ["db", 2, "hunter2", "res.partner", "create", {"name": "read"}]},
    {"service": "object", "method": "exec_workflow", "args": ["db", 2, "hunter2", "sale.order", "read", 1]},
    {"service": "db", "method": "drop", "args": ["master", "db"]},
    {"service": "db", "method": "create_database", "args": []},
    {"service": "common", "method": "set_loglevel", "args": []},
    execute_kw("res.partner", "web_search_read", [[]]),
    # A model called as a service is, and services whose methods are called as those of models.
    execute_kw("common", "version"),
    execute_kw("common:version", "x"),
    {"service": "db", "method": "search", "args": []},
    {"service": "db", "method": "read"},
    {"service": "db", "method": "x.read"},
    {"service": "db.x", "method": "read"},
    {"service": "x.read", "method": "common"},
    execute_kw("res.partner", "unlink.read"),
    execute_kw("res.partner", ""),
    # Shapes that say nothing: not repeated, and no error.
    {"service": "object", "method": "execute_kw", "args": []},
    {"service": "object", "method": "execute_kw", "args": "db 2 pw res.partner read"},
    {"service": "object", "method": "execute_kw"},
    execute_kw(None, "read"),
    execute_kw("res.partner", ["read"]),
    {"service": ["common"], "method": "version", "args": []},
    {"service": "common", "method": None},
    {"model": "res.partner", "method": "read"},
    {},
    ["object", "execute_kw", []],
    [],
    None,
]


@pytest.mark.parametrize("params", ODOO_READS, ids=str)
def test_what_reads_records_goes_again(params: Any) -> None:
    assert may(presets.odoo, "call", params)


@pytest.mark.parametrize("params", ODOO_ACTS, ids=str)
def test_what_changes_records_or_cannot_be_read_does_not(params: Any) -> None:
    assert not may(presets.odoo, "call", params)


def test_the_params_count_only_in_a_call() -> None:
    assert not may(presets.odoo, "execute", ODOO_READS[0])
    # Methods of the wire that look like entries of the list.
    for method in ("common.version", "common:version", "res.partner.read", "read"):
        assert not may(presets.odoo, method)
        assert not may(presets.odoo.extended(idempotent=True), method)


def test_the_list_of_odoo_is_this_and_no_more() -> None:
    assert presets.odoo.methods.names == set(
        words("""
        *.check_access_rights *.check_access_rule *.exists *.fields_get *.formatted_read_group *.get_metadata *.has_access *.name_get
        *.name_search *.read *.read_group *.search *.search_count *.search_read common:about common:authenticate common:login common:version
        """)
    )
    assert presets.odoo.methods.never == frozenset()


@dataclasses.dataclass
class Called:
    service: str
    method: str
    args: Any = ()


class CalledModel(pydantic.BaseModel):
    kind: str = pydantic.Field("common", serialization_alias="service")
    method: str = "version"
    args: list[Any] = []


class Unwritable(pydantic.BaseModel):
    service: str = "common"
    method: str = "version"

    @pydantic.model_serializer
    def write(self) -> Any:
        raise RuntimeError("not today")


@pytest.mark.parametrize("params", [*ODOO_READS[:2], *ODOO_READS[-2:]], ids=str)
def test_params_count_as_they_are_written_whatever_they_are(params: Any) -> None:
    for made in (Called(**params), types.MappingProxyType(params), collections.ChainMap(params), {**params, "args": tuple(params.get("args", ()))}):
        assert may(presets.odoo, "call", made)
    assert not may(presets.odoo, "call", Called(**{**params, "method": "unlink"}))


def test_a_model_counts_by_the_names_on_the_wire() -> None:
    assert may(presets.odoo, "call", CalledModel())
    assert not may(presets.odoo, "call", CalledModel(method="set_loglevel"))


@pytest.mark.parametrize(
    "params", [Unwritable(), {"service": "common", "method": "version", "args": [object()]}, {"args": {1j}}, Called("common", "version", float("nan"))]
)
def test_params_that_cannot_be_written_are_no_reason_and_no_error(params: Any) -> None:
    assert not may(presets.odoo, "call", params)
    assert not may(presets.aria2, "system.multicall", params)
    assert not may(presets.aria2, "system.multicall", [[params]])


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "common", "execute_kw", "create", "write", "res.partner"]) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["service", "method", "args"]), inner, max_size=3),
        max_leaves=20,
    ).filter(lambda params: isinstance(params, (list, dict)))
)
def test_no_params_at_all_break_the_lists(params: Any) -> None:
    assert not may(presets.odoo, "call", params)
    assert not may(presets.aria2, "system.multicall", params)


# --- aria2 ---

ARIA2_READS = words("""
aria2.tellStatus aria2.tellActive aria2.tellWaiting aria2.tellStopped aria2.getUris aria2.getFiles aria2.getPeers aria2.getServers aria2.getOption
aria2.getGlobalOption aria2.getGlobalStat aria2.getVersion aria2.getSessionInfo system.listMethods system.listNotifications
""")

ARIA2_ACTS = words("""
aria2.addUri aria2.addTorrent aria2.addMetalink aria2.remove aria2.forceRemove aria2.pause aria2.forcePause aria2.pauseAll aria2.forcePauseAll
aria2.unpause aria2.unpauseAll aria2.changePosition aria2.changeUri aria2.changeOption aria2.changeGlobalOption aria2.purgeDownloadResult
aria2.removeDownloadResult aria2.shutdown aria2.forceShutdown aria2.saveSession
""")


def multicall(*methods: Any) -> list[Any]:
    return [[{"methodName": method, "params": ["token:s3cret"]} for method in methods]]


def test_the_reads_of_aria2() -> None:
    assert (presets.aria2.methods.names, presets.aria2.methods.never) == (set(ARIA2_READS), frozenset())
    assert [method for method in ARIA2_READS if not may(presets.aria2, method)] == []
    assert [method for method in ARIA2_ACTS if may(presets.aria2, method)] == []


def test_a_multicall_goes_again_if_all_of_its_calls_do() -> None:
    assert may(presets.aria2, "system.multicall", multicall("aria2.getVersion", "aria2.tellStatus"))
    assert not may(presets.aria2, "system.multicall", multicall("aria2.getVersion", "aria2.addUri"))
    assert not may(presets.aria2, "system.multicall", multicall("aria2.getVersion", "system.multicall"))


@dataclasses.dataclass
class Inner:
    methodName: str
    params: list[Any]


def test_the_calls_of_a_multicall_may_be_made_of_anything() -> None:
    assert may(presets.aria2, "system.multicall", [[Inner("aria2.getVersion", []), Inner("aria2.tellActive", [])]])
    assert may(presets.aria2, "system.multicall", ((types.MappingProxyType({"methodName": "aria2.getVersion"}),),))
    assert not may(presets.aria2, "system.multicall", [[Inner("aria2.getVersion", []), Inner("aria2.addUri", [])]])


@pytest.mark.parametrize(
    "params",
    [
        None,
        [],
        [[]],
        [{}],
        ["aria2.getVersion"],
        multicall(None),
        multicall(3),
        [[{"params": []}]],
        [["aria2.getVersion"]],
        [[{"methodName": "aria2.getVersion"}], []],
        {"methods": []},
    ],
    ids=str,
)
def test_a_multicall_that_cannot_be_read_does_not(params: Any) -> None:
    assert not may(presets.aria2, "system.multicall", params)
    assert not may(presets.aria2.extended(idempotent="system.multicall"), "system.multicall", params)


# --- transient ---


def test_of_an_unknown_server_nothing_is_known() -> None:
    assert not any(may(presets.transient, method) for method in [*READS, *ARIA2_READS, "get", "read"])


# --- the list itself ---


@pytest.mark.parametrize(
    ("methods", "allowed", "refused"),
    [
        (MethodList(), [], ["a", ""]),
        (MethodList("a"), ["a"], ["b", "aa", "A"]),
        (MethodList(["a", "get_*"], never="get_lock*"), ["a", "get_", "get_x"], ["get_lock", "get_locks", "x"]),
        (MethodList(iter(["a"]), never=iter(["b"])), ["a"], ["b"]),
        (MethodList(True, never={"pay"}), ["a", "b"], ["pay"]),
        (MethodList(False), [], ["a"]),
        (MethodList(lambda request: request.method in ("a", "pay"), never="pay"), ["a"], ["pay", "b"]),
        (MethodList(["a", "b"]).extended(never="a"), ["b"], ["a"]),
        (MethodList("a", never="b").extended("b"), ["a", "b"], ["c"]),
        (MethodList("a", never="b*").extended("b1").extended(never="b1"), ["a"], ["b1"]),
        (MethodList("a").extended(True), ["a", "b"], []),
        (MethodList("a").extended(False), ["a"], ["b"]),
        (MethodList("a").extended(MethodList("get_*", never="get_b")), ["a", "get_a"], ["get_b"]),
        (MethodList(["a", "b"]).extended(MethodList(never="a")), ["b"], ["a"]),
        (MethodList(True).extended(MethodList("x", never="pay")), ["a", "x"], ["pay"]),
        (MethodList(MethodList(["a", "pay"], never="pay"), never="a2"), ["a"], ["pay", "a2"]),
        (MethodList("a", never=None).extended(None, never=None), ["a"], ["b"]),
        (MethodList(None), [], ["a"]),
        (MethodList("[ab]?"), ["ax", "bx"], ["a", "c", "[ab]?", "[ab]?x"]),
        (MethodList("get_*"), ["get_a", "get_", "get_*"], ["GET_a", "xget_a"]),
        (MethodList(["a", "b"], never=[]), ["a", "b"], ["c"]),
    ],
    ids=repr,
)
def test_the_last_word_is_asked_first(methods: MethodList, allowed: list[str], refused: list[str]) -> None:
    assert [name for name in allowed if not methods(Request(name))] == []
    assert [name for name in refused if name and methods(Request(name))] == []


def test_it_serves_any_strategy() -> None:
    strategy = RetryStrategy(codes={2001}, idempotent=MethodList("get_*", never="get_lock"))
    assert strategy.is_idempotent(Request("get_price"))
    assert not strategy.is_idempotent(Request("get_lock"))


def test_what_a_request_calls_may_stand_elsewhere() -> None:
    methods = MethodList("read", names_of=lambda request: list(request.params))
    assert methods(Request("run", ["read", "read"]))
    assert not methods(Request("run", ["read", "write"]))
    assert not methods(Request("run", []))
    assert methods.extended("write")(Request("run", ["read", "write"]))


@pytest.mark.parametrize("returned", ["delete", "", b"delete", bytearray(b"x"), None, 5, 2.5, [3], [["a"]], ["read", None], ("read", b"x")], ids=repr)
def test_names_of_must_return_several_names(returned: Any) -> None:
    for methods in (
        MethodList("read", names_of=lambda request: copy.copy(returned)),
        MethodList(True, never="delete", names_of=lambda request: copy.copy(returned)),
        MethodList("*", names_of=lambda request: copy.copy(returned)),
    ):
        with pytest.raises(TypeError, match=r"^names_of must return .* got .*; write \[name\]$") as caught:
            methods(Request("run"))
        assert "delete" not in str(caught.value)


@pytest.mark.parametrize("make", [list, tuple, set, iter, lambda names: map(str, names), lambda names: (name for name in names)])
def test_names_of_may_return_any_iterable_of_them(make: Any) -> None:
    methods = MethodList(["read", "list"], never="delete", names_of=lambda request: make(request.params))
    assert methods(Request("run", ["read", "list"]))
    assert not methods(Request("run", ["read", "delete"]))
    # An iterator without anything is true, and all() of nothing, too.
    assert not methods(Request("run", []))
    assert not MethodList(True, names_of=lambda request: make([]))(Request("run"))


def test_a_name_in_place_of_a_list_sends_nothing_twice() -> None:
    methods = MethodList(True, never="delete", names_of=lambda request: request.params["action"])
    rig = Rig("sync", fresh(ConnectionLostError("reset")), result("deleted twice"), retry_strategy=RetryStrategy(idempotent=methods))
    with pytest.raises(TypeError, match=r"write \[name\]"):
        rig.call("run", action="delete")
    assert rig.sent == 1


def test_a_list_that_is_given_to_another_adds_its_rules() -> None:
    stock = execute_kw("stock.quant", "get_stock")
    assert may(presets.odoo.extended(idempotent=MethodList("stock.quant.get_stock")), "call", stock)
    forbidding = presets.odoo.extended(idempotent=MethodList(never="res.partner.*"))
    assert not may(forbidding, "call", execute_kw("res.partner", "read"))
    assert may(forbidding, "call", execute_kw("res.users", "read"))
    assert not presets.ethereum.extended(idempotent=MethodList(never="debug_trace*")).methods(Request("debug_traceBlock"))
    # One that reads the same params, too; one that reads others is asked as a whole.
    same = presets.odoo.extended(idempotent=presets.odoo.methods.extended(never="*.read"))
    assert not may(same, "call", execute_kw("res.users", "read"))
    other = MethodList("a", never="b", names_of=lambda request: request.params)
    assert MethodList("run").extended(other)(Request("run", ["b"]))
    assert MethodList("x").extended(other)(Request("run", ["a"]))
    assert not MethodList("x").extended(other)(Request("run", ["b"]))


def test_it_shows_what_it_holds() -> None:
    methods = MethodList("a", never="b").extended(["c", "d"], never="e")
    assert (methods.names, methods.never) == ({"a", "c", "d"}, {"b", "e"})
    assert repr(methods) == "MethodList(never 'e'; may 'c', 'd'; never 'b'; may 'a')"


class Odd:
    def __call__(self, request: Request) -> bool:
        return False


@pytest.mark.parametrize(
    ("methods", "shown"),
    [
        (MethodList(), ""),
        (MethodList(False), ""),
        (MethodList(True), "may all"),
        (MethodList("a", never="b").extended("b"), "may 'b'; never 'b'; may 'a'"),
        (MethodList("a").extended(True, never="b"), "never 'b'; may all; may 'a'"),
        (MethodList(words), "may if words"),
        (MethodList(Odd()), "may if Odd"),
        (MethodList(MethodList("a", never="b")), "never 'b'; may 'a'"),
        (MethodList(MethodList("a", names_of=Odd())), "may if MethodList"),
    ],
)
def test_it_shows_its_rules_in_the_order_in_which_they_are_asked(methods: MethodList, shown: str) -> None:
    assert repr(methods) == f"MethodList({shown})"


def test_it_does_not_change() -> None:
    methods = MethodList("a")
    methods.extended("b", never="a")
    assert (methods.names, methods.never) == ({"a"}, frozenset())
    with pytest.raises(AttributeError, match=r"a MethodList is immutable; extended\(\.\.\.\) makes another one"):
        methods.names = frozenset("b")
    with pytest.raises(AttributeError, match="immutable"):
        del methods.names


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["copy", "deepcopy", "pickle"])
def test_it_is_copied_and_pickled(copied: Any) -> None:
    methods = copied(presets.ethereum.methods)
    assert methods(Request("eth_call"))
    assert not methods(Request("eth_getFilterChanges"))
    assert repr(methods) == repr(presets.ethereum.methods)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MethodList(3), "idempotent must be callable, got int 3"),
        (lambda: MethodList([3]), "idempotent takes method names and globs, got int 3"),
        (lambda: MethodList("a", never=3), "never takes method names and globs, got int 3"),
        (lambda: MethodList("a", never=["b", None]), "never takes method names and globs, got NoneType None"),
        (lambda: MethodList("a", never=lambda request: True), "never takes method names and globs, got function"),
        (lambda: MethodList("a", never=True), "never takes method names and globs, got bool True"),
        (lambda: MethodList("a", never=b"ab"), "never takes method names and globs, got bytes b'ab'"),
        (lambda: MethodList(b"ab"), "idempotent takes method names and globs, got bytes b'ab'"),
        (lambda: MethodList("a", names_of=3), "names_of must be callable, got int 3; it gets the request"),
        (lambda: MethodList("a", names_of=lambda: ["a"]), "names_of must be callable with 1 argument"),
        (lambda: MethodList("a").extended(lambda: True), "idempotent must be callable with 1 argument"),
        (lambda: MethodList(lambda request: 1)(Request("a")), "idempotent must return True or False, got int 1"),
    ],
)
def test_bad_input_is_named(build: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message.replace("(", r"\(")):
        build()
