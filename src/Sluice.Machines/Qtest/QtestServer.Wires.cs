using System.Globalization;
using System.Text;

namespace Sluice.Machines.Qtest;

// irq_intercept_in and irq_intercept_out: the I/O APIC is the one object here that has wires.
internal sealed partial class QtestServer
{
    private readonly StringBuilder _notices = new();
    private readonly bool[] _levels = new bool[InterruptWires.Inputs];
    private bool _isIntercepting;

    /// <summary>
    /// As QEMU 11 answers: the first interception lasts, a second one of the same object changes nothing. What goes out
    /// of its I/O APIC goes by other ways than wires, so that there is never a line to tell of.
    /// </summary>
    private string Intercept(string path, bool isIn, bool isNamed)
    {
        if (path is not ("ioapic" or "/machine/q35/ioapic")) { return "FAIL Unknown device"; }
        if (isNamed && isIn) { return "FAIL Interception of named in-GPIOs not yet supported"; }
        if (_isIntercepting) { return "OK"; }
        if (isNamed) { return "FAIL No intercepts installed"; }
        _isIntercepting = true;
        if (isIn) { target.WireChanged = OnWireChanged; }
        return "OK";
    }

    /// <summary>
    /// A wire that was up before it was intercepted is taken to be down, as in QEMU: that it goes down is not told.
    /// </summary>
    private void OnWireChanged(int input, bool isUp)
    {
        if (_levels[input] == isUp) { return; }
        _levels[input] = isUp;
        _notices.Append(CultureInfo.InvariantCulture, $"IRQ {(isUp ? "raise" : "lower")} {input}\n");
    }

    private string TakeNotices()
    {
        if (_notices.Length == 0) { return ""; }
        string text = _notices.ToString();
        _notices.Clear();
        return text;
    }
}
